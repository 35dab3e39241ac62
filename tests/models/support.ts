import assert from "node:assert/strict";
import type { Tensor, TensorOf } from "../../autodiff/mod.ts";
import type { ModelGraph } from "../../models/diffusers/mod.ts";
import { decodeSafetensors } from "../../models/weights/mod.ts";
import { type Engine, openEngine, type Tensors } from "../../runtime/mod.ts";
import { TEST_PROVIDER } from "../../runtime/testing/mod.ts";

/** The path of a file of this repository. */
export function repositoryPath(relative: string): string {
  return decodeURIComponent(new URL(`../../${relative}`, import.meta.url).pathname);
}

/** Every tensor of a safetensors file of this repository. */
export function readTensors(relative: string): Tensors {
  return decodeSafetensors(Deno.readFileSync(repositoryPath(relative))).tensors;
}

/** Tensors whose names begin with `prefix`, without it. */
export function withPrefix(tensors: Tensors, prefix: string): Tensors {
  return Object.fromEntries(
    Object.entries(tensors).flatMap(([name, t]) =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), t]] : []
    ),
  );
}

/** One tensor, which must be there and be float32. */
export function float(tensors: Tensors, name: string): TensorOf<"float32"> {
  const tensor = tensors[name];
  assert.equal(tensor?.dtype, "float32", `"${name}" among ${Object.keys(tensors)}`);
  return tensor;
}

/** Loads a graph, runs it once and frees it. */
export async function runOnce(engine: Engine, graph: ModelGraph, feeds: Tensors): Promise<Tensors> {
  const session = await engine.load(graph, {
    intraOpNumThreads: 1,
    provider: TEST_PROVIDER,
  });
  try {
    return await session.run(feeds);
  } finally {
    await session.dispose();
  }
}

/** Runs `body` with an engine in this process. */
export async function withEngine(body: (engine: Engine) => Promise<void>): Promise<void> {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    await body(engine);
  } finally {
    await engine.close();
  }
}

/** Asserts that max |actual - expected| is at most `tolerance` times max |expected|. */
export function assertClose(
  actual: Tensor | undefined,
  expected: Tensor,
  { tolerance, what }: { readonly tolerance: number; readonly what: string },
): void {
  assert.ok(actual !== undefined, `${what} is missing`);
  assert.deepEqual([...actual.shape], [...expected.shape], `shape of ${what}`);
  let [difference, scale] = [0, 0];
  for (let i = 0; i < expected.data.length; i++) {
    const a: number = Number(actual.data[i]);
    const e: number = Number(expected.data[i]);
    assert.ok(Number.isFinite(a), `${what}[${i}] is ${a}`);
    difference = Math.max(difference, Math.abs(a - e));
    scale = Math.max(scale, Math.abs(e));
  }
  assert.ok(scale > 0, `${what} is expected to be zero throughout: the test shows nothing`);
  assert.ok(
    difference <= tolerance * scale,
    `${what} is ${(difference / scale).toExponential(2)} of its largest value off`,
  );
}

/**
 * ‖actual - expected‖ / ‖expected‖, all tensors of `expected` taken together as one vector. Where it is ε the cosine of
 * the angle between them is √(1 - ε²) or more.
 */
export function relativeError(actual: Tensors, expected: Tensors): number {
  let [difference, size] = [0, 0];
  for (const [name, { data }] of Object.entries(expected)) {
    const found = float(actual, name).data;
    assert.equal(found.length, data.length, name);
    for (const [i, v] of found.entries()) {
      difference += (v - Number(data[i])) ** 2;
      size += Number(data[i]) ** 2;
    }
  }
  return Math.sqrt(difference / size);
}
