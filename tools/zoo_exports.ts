/**
 * `deno task zoo-exports [--exporter torchscript|dynamo] [--only REGEX] [--keep FOLDER] [--replay]`: architectures that
 * PyTorch exports with random weights (tests/autodiff/zoo_exports.py), imported and differentiated here, compared with
 * its values and gradients in float64. `--keep` leaves the files, and `--replay` takes those left before. Needs Python
 * with torch, torchvision, timm, transformers, diffusers and onnxscript.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Builder, describeModel, gradient, importModel } from "../autodiff/mod.ts";
import { serialize } from "../compile/mod.ts";
import { openSafetensors } from "../models/weights/mod.ts";
import { openEngine } from "../runtime/mod.ts";
import { pythonPath } from "./python_env.ts";

/** Largest difference of a value or gradient, of the largest. */
const TOLERANCE = 1e-4;

/** Where PyTorch in float32 is no nearer, how many times its error are allowed. */
const TIMES_FLOAT32 = 4;

const { values: args } = parseArgs({
  options: {
    exporter: { type: "string", default: "torchscript" },
    only: { type: "string", default: "" },
    keep: { type: "string" },
    replay: { type: "boolean", default: false },
  },
});
const folder = args.keep ?? await Deno.makeTempDir({ prefix: "drtune-zoo-exports-" });
const engine = await openEngine({ isolation: "in-process" });
const count = { right: 0, off: 0, refused: 0, broken: 0 };
class BrokenExport extends Error {}
try {
  if (!args.replay) await generate();
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => name.endsWith(`.${args.exporter}.onnx`) && new RegExp(args.only).test(name));
  for (const name of names.sort()) count[await report(name)]++;
} finally {
  await engine.close();
  if (args.keep === undefined) await Deno.remove(folder, { recursive: true });
}
const { right, off, refused, broken } = count;
console.log(
  `${
    right + off
  } load, ${right} are right, ${off} are off, ${refused} are refused; ${broken} no runtime takes`,
);
Deno.exit(off + refused === 0 ? 0 : 1);

async function generate(): Promise<void> {
  const path = new URL("../tests/autodiff/zoo_exports.py", import.meta.url).pathname;
  const { code } = await new Deno.Command(await pythonPath(), {
    args: [path, folder, "--exporter", args.exporter, "--only", args.only],
    stdout: "null",
    stderr: "null",
  }).output();
  if (code !== 0) throw new Error(`${path} ended with ${code}`);
}

async function report(file: string): Promise<keyof typeof count> {
  const name = file.slice(0, -`.${args.exporter}.onnx`.length);
  const begin = performance.now();
  try {
    const { value, slope, float32, isTorchRight } = await compare(file, name);
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    const allowed = Math.max(TOLERANCE, TIMES_FLOAT32 * float32);
    const isRight = value <= allowed && slope <= allowed;
    const figures = [value, slope, float32].map((v) => v.toExponential(1));
    console.log(
      `${isRight ? "ok  " : "OFF "} ${name}  value ${figures[0]}  gradient ${figures[1]}  ` +
        `float32 ${figures[2]}  ${seconds} s${isTorchRight ? "" : "  (by differences)"}`,
    );
    return isRight ? "right" : "off";
  } catch (error) {
    if (error instanceof BrokenExport) {
      console.log(`left ${name}  ${error.message}`);
      return "broken";
    }
    console.log(`FAIL ${name}  ${String(error).slice(0, 240)}`);
    return "refused";
  }
}

async function compare(file: string, name: string) {
  const bytes = await Deno.readFile(join(folder, file));
  const facts = openSafetensors(join(folder, `${name}.safetensors`));
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
  await checkExport(bytes);
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
    const dx32 = found["dx"]?.data;
    const slope = distance(dx32, expected.data);
    // Where PyTorch's own gradient is not the derivative (levit, xcit), differences decide.
    const isTorchRight = slope <= TOLERANCE || offFrom(expected.data, d) <= 0.02;
    return {
      value: distance(found["score"]?.data, y.data),
      slope: isTorchRight ? slope : offFrom(Float32Array.from(dx32 ?? [], Number), d) / 10,
      float32: float32.data[0] ?? 0,
      isTorchRight,
    };
  } finally {
    await session.dispose();
  }
}

/** Ends with an error where ONNX Runtime does not take the file as it is: then the exporter is at fault. */
async function checkExport(bytes: Uint8Array): Promise<void> {
  try {
    await (await engine.load({ bytes }, { intraOpNumThreads: 1 })).dispose();
  } catch (cause) {
    throw new BrokenExport("ONNX Runtime refuses the file too", { cause });
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

function distance(found: ArrayLike<number | bigint> | undefined, expected: Float32Array): number {
  if (found?.length !== expected.length) return Infinity;
  let [error, largest] = [0, 0];
  expected.forEach((v, i) => {
    const d = Math.abs(v - Number(found[i] ?? NaN));
    if (!(d <= error)) error = d;
    largest = Math.max(largest, Math.abs(v));
  });
  return largest < 1e-15 ? error : error / largest;
}
