/**
 * Our side of the benchmarks; speaks the line protocol of `python/peer.py`:
 *
 *     deno run -A bench/ours.ts FOLDER CASE THREADS
 */
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { stdin } from "node:process";
import { Builder, float32, gradient, serialize, type Tensor } from "../autodiff/mod.ts";
import { clipImageEmbedding, openClip } from "../models/clip/mod.ts";
import { parseUNetConfig, unetVjpGraph } from "../models/diffusers/mod.ts";
import { WeightScope } from "../models/mod.ts";
import { openSafetensors, openWeights, writeSafetensors } from "../models/weights/mod.ts";
import { type ModelSource, openEngine } from "../runtime/mod.ts";

interface Case {
  readonly model: ModelSource;
  readonly feeds: Readonly<Record<string, Tensor>>;
}

const [folder = "", name = "", threads = "1"] = Deno.args;
const inputs = openSafetensors(`${folder}/inputs.safetensors`);
const read = (tensor: string) => inputs.readFloat32(tensor);

/** d ⟨direction, embedding⟩ / d pixels of CLIP's image tower. */
async function clipCase(): Promise<Case> {
  const model = await openClip(`${folder}/clip`);
  const [pixels, direction] = [await read("pixels"), await read("direction")];
  const b = new Builder({ differentiable: true });
  const x = b.input("pixels", pixels);
  const cotangent = b.input("direction", direction);
  const y = clipImageEmbedding(new WeightScope(b, model.weights), x, model.config);
  const [dx] = gradient(b, [{ value: y, cotangent }], [x]);
  if (dx === undefined) throw new TypeError("No gradient");
  const bytes = serialize(b, { "grad.pixels": dx, value: y });
  return { model: { bytes, weightsRoot: model.source.root }, feeds: { pixels, direction } };
}

/** Gradients of every LoRA tensor of a U-Net. */
async function unetCase(): Promise<Case> {
  const file = `${folder}/unet/config.json`;
  const config = parseUNetConfig(JSON.parse(readFileSync(file, "utf8")), file);
  const weights = await openWeights(`${folder}/unet`);
  const lora = { rank: 32, alpha: 32 };
  const size = { batch: 1, height: 32, width: 32, tokens: 77 };
  const model = unetVjpGraph({ config, weights }, { ...size, lora });
  const feeds: Record<string, Tensor> = {
    sample: await read("sample"),
    timestep: float32([500]),
    encoder_hidden_states: await read("states"),
    cotangent: await read("cotangent"),
  };
  for (const n of inputs.tensors.keys()) {
    if (n.startsWith("lora.")) feeds[n.slice("lora.".length)] = await read(n);
  }
  return { model, feeds };
}

const cases: Readonly<Record<string, () => Promise<Case>>> = { clip: clipCase, unet: unetCase };
const make = cases[name];
if (make === undefined) throw new RangeError(`No case "${name}"`);
const { model, feeds } = await make();
const engine = await openEngine({ isolation: "in-process" });
const session = await engine.load(model, {
  intraOpNumThreads: Number(threads),
  allowSpinning: true,
});
let last: Readonly<Record<string, Tensor>> = {};
const answer = (value: unknown) => console.log(JSON.stringify(value));
answer({ ready: true });
for await (const line of createInterface({ input: stdin })) {
  const [word, file] = line.split(" ");
  if (word === "run") {
    const start = performance.now();
    last = await session.run(feeds);
    answer({ seconds: (performance.now() - start) / 1000 });
  } else if (word === "save" && file !== undefined) {
    const gradients = Object.entries(last).filter(([n]) => n.startsWith("grad."));
    await writeSafetensors(
      file,
      Object.fromEntries(gradients.map(([n, t]) => [n.slice("grad.".length), t])),
    );
    answer({ saved: gradients.length });
  } else if (word === "memory") {
    const status = readFileSync("/proc/self/status", "utf8");
    answer({ peakMb: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? NaN) / 1024 });
  } else break;
}
await engine.close();
