/**
 * One DRTune step of SDXL's shapes at 1024x1024 with random weights in float16: writes them unless they are there, then
 * measures, as `tools/measure_step.ts` prints it.
 *
 *     deno run -A bench/sdxl_step.ts [--provider cuda] [--folder .cache/bench/sdxl]
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values } = parseArgs({
  options: {
    provider: { type: "string", default: "cuda" },
    folder: { type: "string", default: join(root, ".cache/bench/sdxl") },
  },
});
const run = async (...args: string[]) => {
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", ...args],
    cwd: root,
  }).spawn().status;
  if (!success) Deno.exit(1);
};
if (!existsSync(join(values.folder, "model_index.json"))) {
  await run("tools/random_model.ts", "--kind", "sdxl", "--dtype", "fp16", "--out", values.folder);
}
await run(
  "tools/measure_step.ts",
  ...["--model", values.folder, "--provider", values.provider, "--precision", "float16"],
  ...["--latents", "128", "--steps", "25", "--k", "3", "--m", "3", "--warm-up", "1"],
);
