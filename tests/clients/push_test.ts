import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { findPython } from "../../tools/mod.ts";
import { run } from "./_server.ts";

const PUSH = fileURLToPath(new URL("../../examples/python/push.py", import.meta.url));
/** The interpreters that have the clients, "" where there is none. */
const PYTHONS = {
  trackio: findPython({ environment: "trackio" }) ?? "",
  wandb: findPython() ?? "",
};

/** Prints as JSON what a client wrote to this machine: a list of [step, values]. Pictures are objects. */
const READERS = {
  trackio: `
import glob, json, sqlite3
rows = sqlite3.connect(glob.glob("data/*.db")[0]).execute("select step, metrics from metrics order by id")
print(json.dumps([[step, json.loads(metrics)] for step, metrics in rows]))`,
  // Records stand in blocks of 32 KiB as in LevelDB's log: checksum, length, whole or part.
  wandb: `
import glob, json
from wandb.proto import wandb_internal_pb2 as pb
data = open(glob.glob("wandb/offline-run-*/*.wandb")[0], "rb").read()
rows, at, record = [], 7, b""
while at + 7 <= len(data):
    if at % 32768 > 32768 - 7:
        at += -at % 32768
        continue
    length, kind = int.from_bytes(data[at + 4:at + 6], "little"), data[at + 6]
    record += data[at + 7:at + 7 + length]
    at += 7 + length
    if kind in (1, 4):  # whole, last part
        found = pb.Record.FromString(record)
        record = b""
        if found.WhichOneof("record_type") == "history":
            # A picture is several items, "NAME" and "path" among others.
            items = {i.nested_key[0]: {} if i.nested_key[1:] else json.loads(i.value_json) for i in found.history.item}
            rows.append([items.pop("_step"), items])
print(json.dumps(rows))`,
};

/** A run of two steps, of which the second was done again after a fall. */
async function writeRun(folder: string): Promise<void> {
  const step = (step: number, mean: number, samples: readonly unknown[] = []) => ({
    ...{ type: "step", step, loss: -mean, gradNorm: 0.5, seconds: { total: 2 }, samples },
    rewards: step > 0 ? { clip: { mean, perImage: [mean], digest: "" } } : {},
  });
  const sample = { prompt: "a fox", seed: 0, path: "0.png", rewards: { clip: 0.125 } };
  const events = [
    { type: "state", state: "running", step: 0 },
    step(0, 0, [sample]),
    step(1, 0.25),
    step(2, 0.75),
    step(2, 0.75),
    { type: "panel", step: 2, rewards: { pickscore: { mean: 8 } }, diversity: 0.375, alarm: "" },
    { type: "checkpoint", step: 2 },
    { type: "state", state: "finished", step: 2 },
  ];
  const create = { width: 64, height: 64, channels: 3, background: "#136" } as const;
  await sharp({ create }).png().toFile(join(folder, "0.png"));
  await Deno.writeTextFile(join(folder, "config.json"), '{"model": "pipeline"}');
  const lines = events.map((event) => `${JSON.stringify(event)}\n`);
  await Deno.writeTextFile(join(folder, "events.jsonl"), lines.join(""));
}

for (const client of ["trackio", "wandb"] as const) {
  const python = PYTHONS[client];
  Deno.test({
    name: `A run is pushed to ${client}, whose own files have its numbers and pictures`,
    ignore: !await has(python, client),
    async fn() {
      const folder = await Deno.makeTempDir();
      try {
        await writeRun(folder);
        const env = {
          // Neither calls home.
          WANDB_MODE: "offline",
          WANDB_DIR: folder,
          TRACKIO_DIR: join(folder, "data"),
          HF_HUB_OFFLINE: "1",
        };
        const pushed = await run(python, [PUSH, folder, "--to", client], env);
        assert.equal(pushed.code, 0, pushed.stderr);
        const read = await run(python, [
          "-c",
          `import os\nos.chdir(${JSON.stringify(folder)})${READERS[client]}`,
        ]);
        assert.equal(read.code, 0, read.stderr);
        const values = new Map<string, unknown>();
        for (const [step, row] of JSON.parse(read.stdout)) {
          for (const [name, value] of Object.entries(row)) {
            if (name.startsWith("_")) continue;
            assert.ok(!values.has(`${step} ${name}`), `${name} twice`);
            values.set(`${step} ${name}`, typeof value === "object" ? "picture" : value);
          }
        }
        assert.deepEqual(Object.fromEntries([...values].sort()), {
          "0 sample/0 a fox": "picture",
          "0 samples/clip": 0.125,
          "1 gradient_norm": 0.5,
          "1 loss": -0.25,
          "1 reward/clip": 0.25,
          "1 seconds/total": 2,
          "2 gradient_norm": 0.5,
          "2 loss": -0.75,
          "2 panel/pickscore": 8,
          "2 panel_diversity": 0.375,
          "2 reward/clip": 0.75,
          "2 seconds/total": 2,
        });
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

async function has(python: string, module: string): Promise<boolean> {
  if (python === "") return false;
  const find = `import importlib.util as u, sys; sys.exit(u.find_spec("${module}") is None)`;
  return (await run(python, ["-c", find])).code === 0;
}
