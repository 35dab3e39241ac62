/**
 * `deno task bench`: value and gradient side by side with PyTorch in one run, on the same threads, run by run in turn.
 * Prints medians, their ratio (ours / PyTorch), the largest difference between both gradients and each process's peak
 * memory.
 *
 *     deno task bench [--case clip] [--repeat 5] [--threads 2] [--json]
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openSafetensors } from "../models/weights/mod.ts";
import { pythonPath } from "../tools/mod.ts";
import { LineProcess } from "./line_process.ts";

const TITLES = {
  clip: "CLIP ViT-B/32, batch 4: d embedding / d pixels",
  unet: "SD-shaped U-Net, 32x32 latents, LoRA rank 32: all LoRA gradients",
  iteration: "One DRTune iteration of the embedded pipeline, batch 8, T 10, K 2: LoRA gradients",
} as const;
type CaseName = keyof typeof TITLES;

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

const { values } = parseArgs({
  options: {
    case: { type: "string", multiple: true },
    repeat: { type: "string", default: "5" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    json: { type: "boolean" },
  },
});
const names = Object.keys(TITLES).filter((n): n is CaseName =>
  n in TITLES && (values.case === undefined || values.case.includes(n))
);
if (names.length === 0) {
  console.error(`No case ${values.case?.join(", ")}; there are ${Object.keys(TITLES).join(", ")}`);
  Deno.exit(2);
}
const python = await pythonPath();
const folder = here("../.cache/bench");
const peer = here("python/peer.py");
if (!existsSync(`${folder}/inputs.safetensors`)) {
  await mkdir(folder, { recursive: true });
  console.error("Writing random weights (once)");
  const { success } = await new Deno.Command(python, { args: [peer, "prepare", folder] }).spawn()
    .status;
  if (!success) Deno.exit(1);
}

for (const name of names) {
  const ours = await LineProcess.start(Deno.execPath(), [
    "run",
    "--allow-all",
    here("ours.ts"),
    folder,
    name,
    values.threads,
  ]);
  const theirs = await LineProcess.start(python, [peer, "serve", folder, name, values.threads]);
  const times: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
  for (let i = 0; i <= Number(values.repeat); i++) {
    const a = (await ours.ask("run")).seconds ?? NaN;
    const b = (await theirs.ask("run")).seconds ?? NaN;
    // The first pair warms up.
    if (i > 0) {
      times.ours.push(a);
      times.theirs.push(b);
    }
    console.error(
      `${name} ${i}/${values.repeat}: ours ${a.toFixed(3)} s, PyTorch ${b.toFixed(3)} s`,
    );
  }
  const files = [
    `${folder}/${name}.ours.safetensors`,
    `${folder}/${name}.torch.safetensors`,
  ] as const;
  await ours.ask(`save ${files[0]}`);
  await theirs.ask(`save ${files[1]}`);
  const result = {
    case: name,
    threads: Number(values.threads),
    ours: median(times.ours),
    torch: median(times.theirs),
    ratio: median(times.ours) / median(times.theirs),
    difference: await largestDifference(...files),
    oursPeakMb: (await ours.ask("memory")).peakMb ?? NaN,
    torchPeakMb: (await theirs.ask("memory")).peakMb ?? NaN,
  };
  await Promise.all([ours.end(), theirs.end()]);
  if (values.json) console.log(JSON.stringify(result));
  else {
    console.log(`${TITLES[name]}
  ours ${result.ours.toFixed(3)} s, PyTorch ${result.torch.toFixed(3)} s: ratio ${
      result.ratio.toFixed(2)
    } (${values.threads} threads, medians of ${values.repeat})
  largest gradient difference ${result.difference.toExponential(1)} of the largest value
  peak memory ${result.oursPeakMb.toFixed(0)} MB against ${
      result.torchPeakMb.toFixed(0)
    } MB: ratio ${(result.oursPeakMb / result.torchPeakMb).toFixed(2)}`);
  }
}

/** Over all tensors of two files, relative to the largest value of the second. */
async function largestDifference(ours: string, theirs: string): Promise<number> {
  const [a, b] = [openSafetensors(ours), openSafetensors(theirs)];
  let [difference, largest] = [0, 0];
  for (const name of b.tensors.keys()) {
    const [x, y] = [await a.readFloat32(name), await b.readFloat32(name)];
    for (const [i, v] of y.data.entries()) {
      difference = Math.max(difference, Math.abs((x.data[i] ?? NaN) - v));
      largest = Math.max(largest, Math.abs(v));
    }
  }
  return difference / largest;
}
