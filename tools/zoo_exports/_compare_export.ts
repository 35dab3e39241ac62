import { Builder, describeModel, gradient, importModel } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import type { Engine } from "../../runtime/mod.ts";
import type { ExportResult } from "./zoo_result.ts";

/** Largest difference of a value or gradient, of the largest. */
const TOLERANCE = 1e-4;

/** Where PyTorch in float32 is no nearer, how many times its error are allowed. */
const TIMES_FLOAT32 = 4;

/** A gradient is none where it is this far from a central difference, of the size of the sum at random signs. */
const NO_DERIVATIVE = 0.02;

/** Stands for infinity, which JSON has not. */
const WRONG = 1e9;

/** Differences are exact to about 1e-3 of that size. */
const DIFFERENCE_SCALE = 10;

/**
 * Imports an exported model, differentiates it, and compares both with what PyTorch made of it in float64: `factsPath`
 * is written by tests/autodiff/zoo_exports.py.
 */
export async function compareExport(
  engine: Engine,
  { modelPath, factsPath, neighbours }: {
    readonly modelPath: string;
    readonly factsPath: string;
    /** The file of gradients at images that are 1e-5 away; asked for where the gradient is off. */
    readonly neighbours: () => Promise<string | undefined>;
  },
): Promise<ExportResult> {
  const bytes = await Deno.readFile(modelPath);
  let errors: Awaited<ReturnType<typeof errorsOf>>;
  try {
    errors = await errorsOf(engine, { bytes, factsPath });
  } catch (error) {
    const theirs = await refusalOf(engine, bytes);
    return theirs === undefined
      ? { outcome: "refused", why: short(error) }
      : { outcome: "broken", why: short(theirs) };
  }
  const { expected, byDifferences, ...figures } = errors;
  const { value, gradient, float32 } = figures;
  const allowed = Math.max(TOLERANCE, TIMES_FLOAT32 * float32);
  if (value > TOLERANCE) return { outcome: "off", ...figures };
  if (gradient <= TOLERANCE) return { outcome: "right", ...figures };
  if (byDifferences !== undefined && byDifferences <= 2 * TOLERANCE) {
    return { outcome: "right", ...figures, gradient: byDifferences, byDifferences: true };
  }
  const path = await neighbours();
  const moves = path === undefined ? 0 : await farthest(path, expected);
  const outcome = gradient <= Math.max(allowed, TOLERANCE + moves) ? "right" : "off";
  return { outcome, ...figures, moves };
}

/** The largest distance of any gradient of a file. */
async function farthest(path: string, expected: Float32Array): Promise<number> {
  const file = openSafetensors(path);
  let largest = 0;
  for (const name of file.tensors.keys()) {
    largest = Math.max(largest, distance((await file.readFloat32(name)).data, expected));
  }
  return largest;
}

/** Why ONNX Runtime does not take the file as it is, where it does not: then the exporter is at fault. */
async function refusalOf(engine: Engine, bytes: Uint8Array<ArrayBuffer>): Promise<unknown> {
  try {
    await (await engine.load({ bytes }, { intraOpNumThreads: 1 })).dispose();
    return undefined;
  } catch (error) {
    return error;
  }
}

const short = (error: unknown) => String(error).replaceAll(/\s+/g, " ").slice(0, 240);

async function errorsOf(
  engine: Engine,
  { bytes, factsPath }: { readonly bytes: Uint8Array<ArrayBuffer>; readonly factsPath: string },
) {
  const facts = openSafetensors(factsPath);
  const read = (key: string) => facts.readFloat32(key);
  const [image, cotangent, y, expected] = [
    await read("image"),
    await read("cotangent"),
    await read("y"),
    await read("gradient"),
  ];
  const [float32, difference, direction] = [
    await read("float32_error"),
    await read("difference"),
    await read("direction"),
  ];
  const { inputs, outputs } = describeModel(bytes);
  const [input, output] = [inputs[0]?.name ?? "", outputs[0]?.name ?? ""];
  const b = new Builder({ differentiable: true });
  const x = b.input("image", image);
  const score = importModel(b, bytes, { inputs: { [input]: x }, outputs: [output] })[output];
  if (score === undefined) throw new Error("No output");
  const v = b.input("cotangent", score);
  const [dx] = gradient(b, [{ value: score, cotangent: v }], [x]);
  if (dx === undefined) throw new Error("No gradient");
  const session = await engine.load({ bytes: serialize(b, { score, dx }) }, {
    intraOpNumThreads: 1,
  });
  try {
    const found = await session.run({ image, cotangent: { ...cotangent, shape: score.shape } });
    const d = { direction: direction.data, difference: difference.data[0] ?? NaN };
    const dx32 = Float32Array.from(found["dx"]?.data ?? [], Number);
    const slope = distance(dx32, expected.data);
    // Where PyTorch's own gradient is not the derivative (levit, xcit), differences decide.
    const isDerivative = slope <= TOLERANCE || offFrom(expected.data, d) <= NO_DERIVATIVE;
    return {
      value: distance(found["score"]?.data, y.data),
      gradient: slope,
      float32: float32.data[0] ?? 0,
      byDifferences: isDerivative ? undefined : offFrom(dx32, d) / DIFFERENCE_SCALE,
      expected: expected.data,
    };
  } finally {
    await session.dispose();
  }
}

/** How far a gradient is from a difference along a direction, of the size that the sum has at random signs. */
function offFrom(
  gradient: Float32Array,
  { direction, difference }: { readonly direction: Float32Array; readonly difference: number },
): number {
  let [sum, squares] = [0, 0];
  gradient.forEach((g, i) => {
    const term = g * (direction[i] ?? NaN);
    sum += term;
    squares += term * term;
  });
  return Math.abs(sum - difference) / Math.sqrt(squares);
}

/** Largest difference, of the largest value; `WRONG` where sizes differ or a value is none. */
function distance(found: ArrayLike<number | bigint> | undefined, expected: Float32Array): number {
  if (found?.length !== expected.length) return WRONG;
  let [error, largest] = [0, 0];
  expected.forEach((v, i) => {
    const d = Math.abs(v - Number(found[i] ?? NaN));
    if (!(d <= error)) error = d;
    largest = Math.max(largest, Math.abs(v));
  });
  const part = largest < 1e-15 ? error : error / largest;
  return Number.isFinite(part) ? part : WRONG;
}
