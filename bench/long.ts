/**
 * What grows with the length of a run's log and of a model file: WatchRun from the first event on, and the whole load of
 * an ONNX reward (reading, gradient, compilation, session, self-check).
 *
 *     deno task long [--events 50000] [--nodes 500,1000,2000]
 *
 * Prints seconds, and CPU seconds (user and system) of this process, and of the trainer's.
 */
import { toBinary } from "@bufbuild/protobuf";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ModelProtoSchema } from "onnx-buf";
import { float32 } from "../autodiff/mod.ts";
import { TrainerService } from "../proto/mod.ts";
import { loadReward } from "../rewards/mod.ts";
import { grpcClient } from "../services/rpc/mod.ts";
import { onnxModel } from "../tests/autodiff/mod.ts";
import { parseRunConfig, type RunEvent, RunFolder } from "../trainer/mod.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** Clock ticks in a second, as every Linux that Deno runs on has it. */
const TICKS = 100;

const { values } = parseArgs({
  options: {
    events: { type: "string", default: "50000" },
    nodes: { type: "string", default: "500,1000,2000" },
  },
});
const folder = await Deno.makeTempDir({ prefix: "drtune-long-" });
try {
  await watch(Number(values.events));
  for (const nodes of values.nodes.split(",").map(Number)) await load(nodes);
} finally {
  await Deno.remove(folder, { recursive: true });
}

async function watch(count: number): Promise<void> {
  const run = new RunFolder(join(folder, "runs", "long"));
  const rewards = [{ name: "dark", endpoint: "127.0.0.1:9" }];
  const config = parseRunConfig({ model: "tiny-sd", prompts: ["a fox"], rewards });
  const at = new Date(0).toISOString();
  const state = (state: "queued" | "finished", step: number): RunEvent => (
    { type: "state", state, reason: "", step, iterations: count, at }
  );
  await run.create({ config, createdAt: at, first: () => run.append(state("queued", 0)) });
  const step = (step: number): RunEvent => ({
    ...{ type: "step", step, at, loss: 1 / step, gradNorm: 0.1, secondsLeft: 1 },
    rewards: { dark: { mean: 0.5, perImage: [0.4, 0.6, 0.5, 0.5], digest: "0".repeat(64) } },
    seconds: { sample: 1, reward: 1, total: 2 },
    ...{ samples: [], prompts: ["a fox", "a fox", "a fox", "a fox"], plans: [] },
  });
  await run.rewrite([
    state("queued", 0),
    ...Array.from({ length: count }, (_, i) => step(i + 1)),
    state("finished", count),
  ]);
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-prompt", "services/trainer/main.ts", "--port", "0"],
      ...["--models", "tests/golden", "--runs", join(folder, "runs")],
    ],
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  try {
    const { address } = JSON.parse((await lines.read()).value ?? "{}");
    const client = grpcClient(TrainerService, address);
    for (let pass = 1; pass <= 3; pass++) {
      const [begun, before] = [performance.now(), await cpuOf(child.pid)];
      const own = process.cpuUsage();
      let seen = 0;
      for await (const { event } of client.watchRun({ runId: "long" })) {
        if (event.case === "step") seen++;
      }
      if (seen !== count) throw new Error(`${seen} of ${count} steps were told`);
      const { user, system } = process.cpuUsage(own);
      const cpu = await cpuOf(child.pid) - before + (user + system) / 1e6;
      report(`WatchRun, ${count} steps, pass ${pass}`, begun, cpu);
    }
    client.close();
  } finally {
    child.kill("SIGTERM");
    await lines.cancel();
    await child.status;
  }
}

async function load(nodes: number): Promise<void> {
  const name = `${nodes}.onnx`;
  const ops = ["Mul", "Add", "Relu"] as const;
  const chain = Array.from({ length: nodes - 2 }, (_, i) => {
    const op = ops[i % ops.length] ?? "Relu";
    const inputs = [i === 0 ? "features" : `x${i - 1}`];
    return { op, inputs: op.length === 3 ? [...inputs, "scale"] : inputs, outputs: [`x${i}`] };
  });
  const model = onnxModel({
    opset: 17,
    inputs: { image: { shape: ["N", 3, 16, 16] } },
    stored: {
      weight: float32(Array.from({ length: 216 }, (_, i) => Math.sin(i) / 5), [8, 3, 3, 3]),
      scale: float32(Array.from({ length: 8 }, () => 1.001), [8, 1, 1]),
    },
    nodes: [
      { op: "Conv", inputs: ["image", "weight"], outputs: ["features"] },
      ...chain,
      {
        op: "ReduceMean",
        inputs: [`x${nodes - 3}`],
        outputs: ["score"],
        attributes: { axes: [1, 2, 3], keepdims: 0 },
      },
    ],
    outputs: ["score"],
  });
  // Exporters say what an output is.
  const said = onnxModel({
    ...{ opset: 17, inputs: { score: { shape: ["N"] } }, nodes: [], outputs: [] },
  });
  for (const output of model.graph?.output ?? []) {
    const type = said.graph?.input[0]?.type;
    if (type) output.type = type;
  }
  await writeFile(join(folder, name), toBinary(ModelProtoSchema, model));
  const [begun, before] = [performance.now(), process.cpuUsage()];
  const reward = await loadReward(
    { kind: "onnx", weights: name, fit: "stretch" },
    { baseDir: folder, cacheDir: join(folder, `cache-${nodes}`), threads: 1 },
  );
  const { user, system } = process.cpuUsage(before);
  report(`ONNX reward of ${nodes} nodes`, begun, (user + system) / 1e6);
  await reward.dispose();
}

/** CPU seconds of a process so far. */
async function cpuOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function report(what: string, begun: number, cpuSeconds: number): void {
  const seconds = (performance.now() - begun) / 1000;
  console.log(`${what}: ${seconds.toFixed(1)} s, ${cpuSeconds.toFixed(1)} CPU s`);
}
