import { toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createLogger } from "../../base/mod.ts";
import { ListRunsResponseSchema, TrainerService } from "../../proto/mod.ts";
import { serveGateway } from "../../services/gateway/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { parseRunConfig, RunFolder } from "../../trainer/mod.ts";
import { Service } from "./_service.ts";

const MODELS = fileURLToPath(new URL("../golden", import.meta.url));
const COUNT = 3000;
/** Of a reward that is away: what is started waits. */
const REWARDS = [{ name: "dark", endpoint: "127.0.0.1:9", weight: 1 }];
/** What an answer may have at most, and a run beside that. */
const MOST_BYTES = 2 ** 20 + 2 ** 14;

/** A folder that goes when it is disposed of. */
async function temporary() {
  const path = await Deno.makeTempDir({ prefix: "drtune-many-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** A folder of many runs that have ended: copies of one, a second after the other. */
async function writeRuns(root: string): Promise<string[]> {
  const first = new RunFolder(join(root, "run-0"));
  const config = parseRunConfig({ model: "tiny-sd", prompts: ["a fox"], rewards: REWARDS });
  const at = new Date(0).toISOString();
  await first.create({
    ...{ config, createdAt: at },
    first: () =>
      first.append({ type: "state", state: "stopped", reason: "", step: 0, iterations: 1, at }),
  });
  const [configText, events] = await Promise.all(
    ["config.json", "events.jsonl"].map((name) => readFile(join(root, "run-0", name), "utf8")),
  );
  const created = (seconds: number) =>
    `"createdAt": "${new Date(Date.UTC(2026, 0) + 1000 * seconds).toISOString()}"`;
  const ids = Array.from({ length: COUNT }, (_, i) => `run-${i}`);
  for (const [i, id] of ids.entries()) {
    await mkdir(join(root, id, "checkpoints"), { recursive: true });
    const own = String(configText).replace(/"createdAt": "[^"]*"/, created(i));
    await writeFile(join(root, id, "config.json"), own);
    await writeFile(join(root, id, "events.jsonl"), String(events));
  }
  return ids.toReversed();
}

Deno.test("3,000 runs are listed in small answers, none left out or twice while others are started", async () => {
  await using folder = await temporary();
  const root = folder.path;
  const ids = await writeRuns(root);
  const log = createLogger({ level: "silent" });
  await using server = await Service.start("trainer", ["--models", MODELS, "--runs", root]);
  const trainer = grpcClient(TrainerService, server.address);
  const gateway = await serveGateway({ trainer: server.address, rewards: new Map(), port: 0, log });
  let started = 0;
  /** All ids, page by page, while a run is started before each page. */
  const listed = async (
    page: (pageToken: string) => Promise<{ ids: string[]; nextPageToken: string }>,
  ) => {
    const out: string[] = [];
    for (let pageToken = "", more = true; more;) {
      const prompts = { source: { case: "list" as const, value: { prompts: ["a fox"] } } };
      const config = { model: "tiny-sd", prompts, rewards: REWARDS };
      await trainer.startRun({ runId: `new-${++started}`, config });
      const answer = await page(pageToken);
      out.push(...answer.ids);
      pageToken = answer.nextPageToken;
      more = pageToken !== "";
    }
    // Those that were there when the list began, and no run that came since.
    return out.filter((id) => id.startsWith("run-"));
  };
  const json = async (path: string) => {
    const response = await fetch(`http://${gateway.address}${path}`);
    const text = await response.text();
    return { text, value: JSON.parse(text) };
  };
  try {
    for (const pageSize of [0, 7 * 31, 1_000_000]) {
      const all = await listed(async (pageToken) => {
        const answer = await trainer.listRuns({ pageSize, pageToken });
        const { length } = toBinary(ListRunsResponseSchema, answer);
        assert.ok(length < MOST_BYTES && answer.runs.length <= 200, `${length} bytes`);
        return { ids: answer.runs.map(({ id }) => id), nextPageToken: answer.nextPageToken };
      });
      assert.deepEqual(all, ids, `pages of ${pageSize}`);
    }
    const byHttp = await listed(async (pageToken) => {
      const query = new URLSearchParams({ pageSize: "150", pageToken });
      const { text, value } = await json(`/v1/runs?${query}`);
      assert.ok(value.runs.length <= 150 && text.length < 2 * MOST_BYTES, `${text.length} bytes`);
      return {
        ids: value.runs.map(({ id }: { id: string }) => id),
        nextPageToken: value.nextPageToken ?? "",
      };
    });
    assert.deepEqual(byHttp, ids);
    // What the page shows and what Prometheus reads have all of them.
    const metrics = await (await fetch(`http://${gateway.address}/metrics`)).text();
    const told = new Set(
      [...metrics.matchAll(/^drtune_run_step\{run="(run-\d+)"/gm)].map(([, id]) => id),
    );
    assert.equal(told.size, COUNT);
    const words = ["services/cli/main.ts", "runs", "--endpoint", server.address, "--json"];
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", ...words],
      cwd: fileURLToPath(new URL("../../", import.meta.url)),
      stderr: "inherit",
    }).output();
    assert.ok(success);
    const lines = new TextDecoder().decode(stdout).trim().split("\n");
    const byCommand = lines.map((line) => String(JSON.parse(line).id));
    assert.deepEqual(byCommand.filter((id) => id.startsWith("run-")), ids);
  } finally {
    await gateway.stop({ drainSeconds: 0 });
    trainer.close();
  }
});
