import assert from "node:assert/strict";
import { join } from "node:path";
import { StatusError } from "../../services/rpc/mod.ts";
import { loadOften, type LoadOptions, type LoadReport } from "./_load_often.ts";
import { memoryOfFailedLoads } from "./_memory.ts";

/**
 * Asks a reward server, which clients keep asking meanwhile, for loads that must fail: of a file that is not there, of
 * one that holds something else, of a kind and of a field that there are not. Throws unless each is refused and every
 * request is answered by the reward that was there.
 */
export async function failedLoads(options: LoadOptions): Promise<LoadReport> {
  const broken = join(options.folder, "broken.onnx");
  await Deno.writeTextFile(broken, "no model");
  const configs = [
    { kind: "clip", weights: join(options.folder, "absent") },
    { kind: "onnx", model: broken },
    { kind: "absent" },
    { kind: "symmetry", std: "absent" },
  ];
  return await loadOften(options, {
    what: "failed load",
    memoryOf: memoryOfFailedLoads,
    async turn(server, index) {
      const config = configs[index % configs.length] ?? {};
      await assert.rejects(server.load(config), (error) => {
        return error instanceof StatusError && error.status === "FAILED_PRECONDITION";
      }, JSON.stringify(config));
    },
    check(server) {
      assert.ok(server.scores.size <= 1, "A load that failed changed the reward");
    },
  });
}
