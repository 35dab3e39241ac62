import assert from "node:assert/strict";
import { Builder, describeModel, gradient, importModel, type Tensor } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { numbersOf } from "../../compile/testing/mod.ts";
import { decodeSafetensors } from "../../models/weights/mod.ts";
import { openEngine } from "../../runtime/mod.ts";

const FOLDER = new URL("models/", import.meta.url);

/** Largest difference from PyTorch in float32, relative to the largest entry; found are 2e-6 at most. */
const TOLERANCE = 1e-5;

/** Runs a model whose weights lie beside it. */
async function run(bytes: Uint8Array, feeds: Readonly<Record<string, Tensor>>) {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const model = { bytes, weightsRoot: new URL(".", FOLDER).pathname };
    const session = await engine.load(model, { intraOpNumThreads: 1 });
    return await session.run(feeds);
  } finally {
    await engine.close();
  }
}

function assertClose(found: Tensor | undefined, expected: Tensor | undefined): void {
  assert(found !== undefined && expected !== undefined);
  assert.deepEqual([...found.shape], [...expected.shape]);
  const reference = numbersOf(expected);
  const scale = reference.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
  const worst = numbersOf(found).reduce(
    (max, v, i) => Math.max(max, Math.abs(v - (reference[i] ?? NaN))),
    0,
  );
  assert(worst <= TOLERANCE * scale, `off by ${worst / scale}`);
}

for (const name of ["cnn_opset11", "cnn_opset20", "vit_opset12", "vit_opset14", "vit_opset18"]) {
  Deno.test(`a model that PyTorch exported has PyTorch's score and gradient: ${name}`, async () => {
    const bytes = await Deno.readFile(new URL(`${name}.onnx`, FOLDER));
    const { tensors: facts } = decodeSafetensors(
      await Deno.readFile(new URL(`${name}.safetensors`, FOLDER)),
    );
    const { image, cotangent, score: expected, gradient: slope } = facts;
    assert(image && cotangent && expected);
    assert.deepEqual(describeModel(bytes).inputs.map((input) => input.name), ["image"]);
    const b = new Builder({ differentiable: true });
    const x = b.input("image", image);
    const { score } = importModel(b, bytes, { inputs: { image: x } });
    assert(score !== undefined);
    const v = b.input("cotangent", score);
    const [dx] = gradient(b, [{ value: score, cotangent: v }], [x]);
    assert(dx !== undefined);
    const found = await run(serialize(b, { score, gradient: dx }), { image, cotangent });
    assertClose(found["score"], expected);
    assertClose(found["gradient"], slope);
  });
}
