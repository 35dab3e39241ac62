import assert from "node:assert/strict";
import { join } from "node:path";
import { StatusError } from "../../services/rpc/mod.ts";
import { LoadedServer } from "./_loaded_server.ts";
import { memoryOfFailedLoads, TEN } from "./_memory.ts";
import { progress } from "./_progress.ts";
import { ReadingLog } from "./_reading_log.ts";
import { type LoadOptions, type LoadReport, reportOf } from "./swap_under_load.ts";

/**
 * Asks a reward server, which clients keep asking meanwhile, for loads that must fail: of a file that is not there, of
 * one that holds something else, of a kind and of a field that there are not. Throws unless each is refused and every
 * request is answered by the reward that was there.
 */
export async function failedLoads(
  { count, clients, folder, say, signal }: LoadOptions,
): Promise<LoadReport> {
  const log = await ReadingLog.open(folder);
  const before = log.count;
  await log.keep(async () => {
    if (before >= count) return;
    const broken = join(folder, "broken.safetensors");
    await Deno.writeTextFile(broken, "no weights");
    const configs = [
      { kind: "clip", weights: join(folder, "absent") },
      { kind: "onnx", model: broken },
      { kind: "absent" },
      { kind: "symmetry", std: "absent" },
    ];
    await using server = await LoadedServer.start({ folder, clients });
    const begun = performance.now();
    let told = 0;
    while (log.count < count && !signal?.aborted) {
      if ((log.count - before) % TEN === 0) server.trim();
      const config = configs[log.count % configs.length] ?? {};
      await assert.rejects(server.load(config), (error) => {
        return error instanceof StatusError && error.status === "FAILED_PRECONDITION";
      }, JSON.stringify(config));
      const { inFlight, answered } = server;
      const resident = await server.resident();
      await log.add({ answered: answered - told, inFlight, ...(resident && { resident }) });
      told = answered;
      const done = log.count - before;
      say(
        `failed load ${progress(done, { of: count - before, begun })}: ${answered} answers, ${
          resident?.server.toFixed(0)
        } MiB`,
      );
    }
    await server.finish();
    assert.ok(server.scores.size <= 1, "A load that failed changed the reward");
  });
  return reportOf(log, memoryOfFailedLoads);
}
