/**
 * Opens every torch file of a folder again and again, 10,000 times in all, each of which must be refused, and prints by
 * how many bytes resident memory grew after the first fifth. A program of its own, since tests that run beside one
 * another share a process and its memory. Files named "slow-*" are opened every 50th round only.
 *
 *     deno run --allow-read --allow-sys models/weights/_measure_hostile.ts FOLDER
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { openTorchFile } from "./torch_file.ts";
import { WeightsError } from "./weights_error.ts";

const [folder = "."] = Deno.args;
const names = readdirSync(folder).sort();
if (names.length === 0) throw new Error(`${folder} holds no files`);
const rounds = Math.ceil(10_000 / names.length);
let before = 0;
for (let round = 0; round < rounds; round++) {
  if (round === Math.floor(rounds / 5)) before = Deno.memoryUsage().rss;
  for (const name of names) {
    if (name.startsWith("slow-") && round % 50 !== 0) continue;
    try {
      openTorchFile(join(folder, name));
    } catch (error) {
      if (error instanceof WeightsError) continue;
      throw error;
    }
    throw new Error(`${name} was not refused`);
  }
}
console.log(Deno.memoryUsage().rss - before);
