import type { Tensor } from "../autodiff/mod.ts";
import { checkTensor } from "./_check_tensor.ts";
import type { KeptTensors } from "./_kept_tensors.ts";
import type { ValueType } from "./_ort_session.ts";
import { RuntimeError } from "./errors.ts";
import type { Feed, Tensors } from "./session.ts";

/**
 * The tensors a run is fed with, kept ones looked up, each checked against the input's declaration.
 * Throws `RuntimeError` "feed_invalid".
 */
export function resolveFeeds(
  feeds: Readonly<Record<string, Feed>>,
  { inputs, scalarInputs, kept }: {
    readonly inputs: readonly ValueType[];
    readonly scalarInputs: ReadonlySet<string>;
    readonly kept: Pick<KeptTensors, "get">;
  },
): Tensors {
  const given = new Map(Object.entries(feeds));
  const tensors = inputs.map((input): [string, Tensor] => {
    const tensor = lookUp(given.get(input.name), { input, kept });
    given.delete(input.name);
    checkTensor(`Feed '${input.name}'`, tensor);
    checkFeed(tensor, { ...input, isScalar: scalarInputs.has(input.name) });
    return [input.name, tensor];
  });
  const [unknown] = given.keys();
  if (unknown !== undefined) {
    const names = inputs.map(({ name }) => name).join(", ");
    throw invalid(`Feed '${unknown}' is unknown, expected only ${names}`);
  }
  return Object.fromEntries(tensors);
}

function lookUp(
  feed: Feed | undefined,
  { input, kept }: { input: ValueType; kept: Pick<KeptTensors, "get"> },
): Tensor {
  const name = `Feed '${input.name}'`;
  if (feed === undefined) {
    throw invalid(`${name} is missing, expected ${input.dtype} [${input.shape.join(", ")}]`);
  }
  if (!("place" in feed)) return feed;
  const tensor = kept.get(feed);
  if (tensor === undefined) {
    throw invalid(`${name} refers to '${feed.place}', which the engine does not keep`);
  }
  return tensor;
}

function checkFeed(
  { dtype, shape }: Tensor,
  input: ValueType & { readonly isScalar: boolean },
): void {
  const name = `Feed '${input.name}'`;
  if (dtype !== input.dtype) throw invalid(`${name} has dtype ${dtype}, expected ${input.dtype}`);
  const anyShape = input.shape.length === 0 && !input.isScalar;
  const fits = shape.length === input.shape.length &&
    input.shape.every((size, i) => typeof size === "string" || size === shape[i]);
  if (!fits && !anyShape) {
    throw invalid(`${name} has shape [${shape.join(", ")}], expected [${input.shape.join(", ")}]`);
  }
}

function invalid(message: string): RuntimeError {
  return new RuntimeError("feed_invalid", message);
}
