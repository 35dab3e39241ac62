import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { randomStream } from "../random.ts";
import { type Float32Tensor, mapParameters } from "../tensors.ts";
import { chunks } from "./_chunks.ts";
import { type AdaptedDenoiser, checkPrecision, PipelineModel } from "./mod.ts";

Deno.test("chunks are as few and as even as can be", () => {
  assert.deepEqual(chunks(5, 2), [[0, 1], [1, 3], [3, 5]]);
  assert.deepEqual(chunks(6, 8), [[0, 6]]);
  assert.deepEqual(chunks(2, 0.3), [[0, 1], [1, 2]]);
  assert.deepEqual(chunks(0, 4), []);
});

Deno.test("LoRA weights act in proportion to their scale, and few sessions serve all sizes", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
    const pipeline = await readPipeline(folder);
    const model = new PipelineModel(pipeline, engine, {
      lora: { rank: 2, alpha: 2 },
      session: { intraOpNumThreads: 1 },
      limits: { sessions: 2, forward: 64 },
    });
    const fresh = model.initialParameters(1);
    const random = randomStream(1, "noise");
    const tuned = mapParameters(fresh, (p) => float32(random.normals(p.data.length), p.shape));
    const long = "a very ".repeat(100);
    assert.equal(model.prompts.remark(["a red cat"]), undefined);
    assert.match(
      model.prompts.remark(["a red cat", long]) ?? "",
      /^The model reads \d+ tokens of a prompt; 1 of 2 prompts are longer and are cut: "a very .{53}…"$/,
    );
    const size = { height: 8, width: 8 };
    const { conditional } = await model.prompts.encode(["a red cat", "books"], size);
    const x = float32(random.normals(2 * 4 * 64), [2, 4, 8, 8]);
    const rows = { x, timesteps: [7, 500], branches: [conditional] };
    const outputOf = async (denoiser: AdaptedDenoiser) => {
      const [output] = await denoiser.predict(rows);
      return [...output?.data ?? []];
    };
    const predicted = async (parameters: typeof tuned, scale: number) => {
      const denoiser = await model.adapt(parameters, { scale });
      const output = await outputOf(denoiser);
      await denoiser.release();
      return output;
    };
    const frozen = await predicted(fresh, 1);
    assert.deepEqual(await predicted(tuned, 0), frozen);
    const scaledB = Object.fromEntries(
      Object.entries(tuned).map(([name, t]) => [
        name,
        name.includes("lora_B") ? float32(t.data.map((v) => v * 0.5), t.shape) : t,
      ]),
    );
    const half = await predicted(tuned, 0.5);
    assert.deepEqual(half, await predicted(scaledB, 1));
    assert.notDeepEqual(half, frozen);

    const denoiser = await model.adapt(tuned);
    const tunedOut = await outputOf(denoiser);
    await denoiser.update(fresh);
    assert.deepEqual(await outputOf(denoiser), frozen);
    assert.notDeepEqual(tunedOut, frozen);
    // Decoding takes other sessions, which push the first ones out.
    await model.decoder.vjp(x, await model.decoder.decode(x));
    assert.deepEqual(await outputOf(denoiser), frozen);
    assert.match(await model.digest(), /^[0-9a-f]{64}$/);
    await model.dispose();
  } finally {
    await engine.close();
  }
});

Deno.test("a model whose attention overflows in float16 is refused there", async () => {
  const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
  const { unet: { config } } = await readPipeline(folder);
  checkPrecision("float16", config);
  checkPrecision("float32", { ...config, upcastAttention: true });
  assert.throws(
    () => checkPrecision("float16", { ...config, upcastAttention: true }),
    /^FieldError: Field precision is "float16", expected "float32": .*upcast_attention/,
  );
});

Deno.test("branches give what each gives alone, and their gradients add up, however rows are grouped", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
    const pipeline = await readPipeline(folder);
    const random = randomStream(2, "noise");
    const normal = (shape: number[]) =>
      float32(random.normals(shape.reduce((a, b) => a * b)), shape);
    const [x, first, second] = [[3, 4, 8, 8], [3, 4, 8, 8], [3, 4, 8, 8]].map(normal);
    assert.ok(x && first && second);
    const lora = { rank: 2, alpha: 2 };
    const session = { intraOpNumThreads: 1 };
    // At most two rows of 64 positions in both branches, which leaves one over.
    const grouped = new PipelineModel(pipeline, engine, {
      lora,
      session,
      limits: { forward: 256, products: 256 },
    });
    const model = new PipelineModel(pipeline, engine, { lora, session });
    const parameters = mapParameters(
      model.initialParameters(1),
      ({ shape }) => float32(normal([...shape]).data.map((v) => 0.1 * v), shape),
    );
    const prompts = ["a red cat", "books", "a fox"];
    const { conditional, unconditional } = await model.prompts.encode(prompts, {
      height: 8,
      width: 8,
    });
    const rows = { x, timesteps: [7, 500, 900] };
    const both = { ...rows, branches: [unconditional, conditional] };
    const [one, parts] = [await model.adapt(parameters), await grouped.adapt(parameters)];
    const input = { input: true };
    const together = await parts.vjp(both, [first, second], input);
    const apart = [
      await one.vjp({ ...rows, branches: [unconditional] }, [first], input),
      await one.vjp({ ...rows, branches: [conditional] }, [second], input),
    ];
    const sum = (of: (product: (typeof apart)[number]) => Float32Tensor | undefined) => {
      const [a, b] = apart.map((product) => of(product)?.data);
      return Array.from(a ?? [], (v, i) => v + (b?.[i] ?? NaN));
    };
    assertClose(together.x, sum((product) => product.x));
    for (const name of Object.keys(parameters)) {
      assertClose(together.parameters[name], sum((product) => product.parameters[name]));
    }
    const outputs = await parts.predict(both);
    for (const [i, branch] of both.branches.entries()) {
      const [alone] = await one.predict({ ...rows, branches: [branch] });
      assertClose(outputs[i], [...alone?.data ?? []]);
    }
    assert.equal(outputs.length, 2);
    await model.dispose();
    await grouped.dispose();
  } finally {
    await engine.close();
  }
});

/** To float32 rounding of the largest value. */
function assertClose(actual: Float32Tensor | undefined, expected: readonly number[]): void {
  assert.equal(actual?.data.length, expected.length);
  const apart = expected.map((v, i) => Math.abs(v - (actual?.data[i] ?? NaN)));
  const relative = Math.max(...apart) / Math.max(...expected.map(Math.abs));
  assert.ok(relative <= 1e-5, `${relative} apart`);
}
