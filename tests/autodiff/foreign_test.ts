import assert from "node:assert/strict";
import {
  Builder,
  gradient,
  importModel,
  isFloat,
  type Tensor,
  type Value,
} from "../../autodiff/mod.ts";
import { numbersOf } from "../../compile/testing/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { decodeSafetensors } from "../../models/weights/mod.ts";
import { evaluate, evaluateAsWritten } from "./_evaluate.ts";

const FOLDER = new URL("foreign/", import.meta.url);

/** What is differentiated by what, and who computed the gradient: PyTorch in float64, or differences of ONNX Runtime. */
interface Case {
  readonly of: string;
  readonly wrt: readonly string[];
  readonly torch: boolean;
  /** Rounded on the way: the gradient is by definition not the derivative. */
  readonly rounds?: boolean;
  /** Where differences are worse than usual: near a pole. */
  readonly tolerance?: number;
}

const CASES: Readonly<Record<string, Case>> = JSON.parse(
  await Deno.readTextFile(new URL("cases.json", FOLDER)),
);

/** Largest differences, of the largest value. Differences in float32 are no better. */
const TOLERANCE = { value: 2e-6, torch: 1e-5, differences: 5e-3 };

/** What is refused, and in which words. */
const REFUSED: Readonly<Record<string, RegExp>> = {};

for (const [name, { of, wrt, torch, rounds, tolerance }] of Object.entries(CASES)) {
  Deno.test(`a model of somebody else has its values and gradients: ${name}`, async () => {
    const bytes = await Deno.readFile(new URL(`${name}.onnx`, FOLDER));
    const { tensors: facts } = decodeSafetensors(
      await Deno.readFile(new URL(`${name}.safetensors`, FOLDER)),
    );
    const feeds = Object.fromEntries(
      Object.entries(facts).flatMap(([key, tensor]) =>
        key.startsWith("in.") ? [[key.slice(3), tensor]] : []
      ),
    );
    const b = new Builder({ differentiable: true });
    const inputs = mapped(
      feeds,
      (tensor, key) => wrt.includes(key) ? b.input(key, tensor) : b.constant(tensor),
    );
    const load = () => importModel(b, bytes, { inputs, outputs: [of] });
    const refused = REFUSED[name];
    if (refused !== undefined) return void assert.throws(load, refused);
    const y = load()[of];
    const { cotangent } = facts;
    assert(y !== undefined && isFloat(y.dtype) && cotangent !== undefined);
    assert.deepEqual([...y.shape], [...cotangent.shape]);
    const xs = wrt.map((key) => inputs[key]).filter((v) => v !== undefined);
    const v = b.input("cotangent", cotangent);
    const gradients = gradient(b, [{ value: y, cotangent: v }], xs, { unreached: "zero" });
    const results: Record<string, Value> = { y };
    for (const [i, g] of gradients.entries()) results[`d.${wrt[i]}`] = g;
    const given = Object.fromEntries(wrt.map((key) => [key, feeds[key]]));
    const [found] = await evaluate(serialize(b, results), [{ ...defined(given), cotangent }]);
    const [expected] = await evaluateAsWritten(bytes, [feeds]).catch(
      () => [],
    );
    if (expected !== undefined) assertClose(found?.["y"], expected[of], TOLERANCE.value, "y");
    for (const key of wrt) {
      if (rounds) continue;
      const allowed = tolerance ?? (torch ? TOLERANCE.torch : TOLERANCE.differences);
      assertClose(found?.[`d.${key}`], facts[`grad.${key}`], allowed, `d.${key}`);
    }
  });
}

function mapped<T>(
  tensors: Readonly<Record<string, Tensor>>,
  make: (tensor: Tensor, key: string) => T,
): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(tensors).map(([key, t]) => [key, make(t, key)]));
}

function defined(feeds: Readonly<Record<string, Tensor | undefined>>) {
  return Object.fromEntries(
    Object.entries(feeds).flatMap(([key, t]) => t === undefined ? [] : [[key, t]]),
  );
}

function assertClose(
  found: Tensor | undefined,
  expected: Tensor | undefined,
  tolerance: number,
  what: string,
): void {
  assert(found !== undefined && expected !== undefined);
  assert.deepEqual([...found.shape], [...expected.shape]);
  const reference = numbersOf(expected);
  const scale = reference.reduce((max, v) => Math.max(max, Math.abs(v)), 1e-3);
  const worst = numbersOf(found).reduce(
    (max, v, i) => Math.max(max, Math.abs(v - (reference[i] ?? NaN))),
    0,
  );
  assert(worst <= tolerance * scale, `${what} is off by ${worst / scale} of its largest`);
}
