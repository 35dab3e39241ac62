import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { type GraphProto, ModelProtoSchema } from "onnx-buf";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { type Engine, openEngine } from "../../runtime/mod.ts";
import { PipelineModel } from "../model/mod.ts";
import { parseSchedulerConfig } from "../samplers/mod.ts";
import { FakeReward } from "../testing/fake_reward.ts";
import { openRunModel, prepareRunConfig, type RunDependencies, RunStore } from "./mod.ts";

const root = new URL("../..", import.meta.url).pathname;
/** Everything random is in it: two batches, redraws, noise in each step, shift, perturbed copies, drift, a panel. */
const CONFIG = {
  model: "tests/golden/tiny-sd",
  method: { name: "draft-lv", m: 2, earlyStop: true },
  sampler: { steps: 3 },
  lora: { rank: 2, targets: ["to_q", "ff.net.2"] },
  optimizer: { learningRate: 0.01 },
  batch: { size: 2, accumulation: 2 },
  latentHeight: 8,
  latentWidth: 8,
  prompts: ["a red cat", "books", "an owl"],
  rewards: [{ name: "dark", endpoint: "dark" }, {
    name: "bright",
    endpoint: "bright",
    weight: 0.5,
  }],
  drift: { weight: 10 },
  randomShift: 3,
  perturb: { copies: 2, noise: 0.1 },
  panel: { every: 2, rewards: [{ name: "grey", endpoint: "grey" }] },
  iterations: 2,
  sampleEvery: 0,
};

/** The bytes of a run's LoRA file, and of its optimizer. */
async function trained(
  { config = CONFIG, openModel = openRunModel, threads, slow, seed = 0 }: {
    readonly config?: Readonly<Record<string, unknown>>;
    readonly openModel?: typeof openRunModel;
    readonly threads: number;
    /** The reward that answers last. */
    readonly slow: string;
    readonly seed?: number;
  },
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "drtune-runs-"));
  try {
    const dependencies: RunDependencies = {
      prepare: (value) => prepareRunConfig(value, { root }),
      openModel: (config) => openModel(config, { root, session: { intraOpNumThreads: threads } }),
      connect: ({ endpoint }) => {
        const reward = new FakeReward(["dark", "bright", "grey"].indexOf(endpoint) / 2);
        if (endpoint === slow) reward.onCall = () => new Promise((done) => setTimeout(done, 20));
        return Promise.resolve(reward);
      },
    };
    const store = await RunStore.open(folder, dependencies);
    const { run } = await store.start("run", { ...config, seed });
    for await (const event of run.log.watch(0)) void event;
    await store.close();
    assert.equal(run.state, "finished", String(run.log.lastState?.reason));
    const files = await Promise.all(
      ["lora", "optimizer"].map((name) =>
        readFile(join(run.folder.checkpoints, "step-000002", `${name}.safetensors`))
      ),
    );
    return files.map((bytes) => bytes.toString("base64")).join();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("the same configuration gives the same bytes, whatever the threads and whoever answers first", async () => {
  const first = await trained({ threads: 1, slow: "dark" });
  const second = await trained({ threads: 2, slow: "bright" });
  assert.ok(first === second, "the bytes differ");
  assert.ok(first !== await trained({ threads: 1, slow: "", seed: 1 }), "the seed changes nothing");
});

/** Kernels of a graph's convolutions, those inside its loops too. */
function kernelsOf({ node }: GraphProto): readonly string[] {
  return node.flatMap(({ opType, attribute }) => [
    ...attribute.filter(({ name }) => opType === "Conv" && name === "kernel_shape").map((
      { ints },
    ) => ints.join("x")),
    ...attribute.flatMap(({ g }) => g === undefined ? [] : kernelsOf(g)),
  ]);
}

Deno.test("with convolutions by Winograd's algorithm too", async () => {
  /** Of every graph that ran, by its name. */
  const kernels = new Map<string, readonly string[]>();
  const openModel: typeof openRunModel = async (config, { session = {} }) => {
    const { model, lora, latentHeight: height = 0, latentWidth: width = 0 } = config;
    const pipeline = await readPipeline(join(root, model));
    const engine = await openEngine({ isolation: "child" });
    const heard: Engine = {
      pid: engine.pid,
      load: (model, options) => {
        const { graph } = fromBinary(ModelProtoSchema, model.bytes);
        kernels.set(model.name ?? "", graph === undefined ? [] : kernelsOf(graph));
        return engine.load(model, options);
      },
      place: (name) => engine.place(name),
      keep: (...kept) => engine.keep(...kept),
      forget: (...names) => engine.forget(...names),
      cpuSeconds: () => engine.cpuSeconds(),
      close: () => engine.close(),
    };
    return {
      model: new PipelineModel(pipeline, heard, { lora, session }),
      scheduler: parseSchedulerConfig(pipeline.scheduler),
      latents: { channels: pipeline.unet.config.inChannels, height, width },
      release: () => engine.close(),
    };
  };
  // Two images, guided, at 16x16 are the 1,024 positions from which it is worth it.
  const config = {
    ...CONFIG,
    model: "zoo/pipeline",
    method: { name: "drtune", k: 1, m: 1 },
    sampler: { steps: 2 },
    batch: { size: 2 },
    panel: undefined,
    guidance: { scale: 5, gradient: "both" },
    latentHeight: 16,
    latentWidth: 16,
  };
  const first = await trained({ config, openModel, threads: 1, slow: "dark" });
  for (const name of ["U-Net", "U-Net gradient"]) {
    assert.ok(kernels.get(name)?.includes("1x3"), `${name} convolves with ${kernels.get(name)}`);
  }
  assert.ok(
    first === await trained({ config, openModel, threads: 1, slow: "bright" }),
    "one thread",
  );
  assert.ok(
    first === await trained({ config, openModel, threads: 2, slow: "grey" }),
    "two threads",
  );
});
