import { fromBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { tensorboard } from "../../../proto/mod.ts";
import { findPython } from "../../../tools/mod.ts";
import { parseRunConfig, type RunEvent } from "../../../trainer/mod.ts";
import { createLogger } from "../../../base/mod.ts";
import { recordRun } from "./record_run.ts";
import { tfRecord } from "./tf_record.ts";

const config = parseRunConfig({
  model: "fake",
  prompts: ["a fox"],
  rewards: [{ name: "clip", endpoint: "127.0.0.1:1" }],
});
const lines: string[] = [];
const log = createLogger({ write: (line) => lines.push(line) });
const at = (step: number) => new Date(1.7e12 + 1000 * step).toISOString();

function stepEvent(step: number, reward: number): RunEvent {
  const sample = { prompt: "an owl", seed: 3, path: `samples/${step}.png`, rewards: { clip: 0.5 } };
  return {
    type: "step",
    step,
    loss: -reward,
    gradNorm: 2 * reward,
    rewards: step === 0 ? {} : { clip: { mean: reward, perImage: [reward], digest: "d" } },
    seconds: { sample: 0.25, total: 1 },
    secondsLeft: 0,
    samples: step % 2 === 0 ? [sample] : [],
    prompts: [],
    plans: [],
    at: at(step),
  };
}

/** A run that was killed at step 4, in the middle of a record, and went on from its checkpoint at step 2. */
async function killedAndResumed(folder: string): Promise<void> {
  await mkdir(join(folder, "samples"));
  for (const step of [0, 2, 4, 6]) {
    const png = sharp({ create: { width: 5, height: 4, channels: 3, background: "red" } }).png();
    await writeFile(join(folder, `samples/${step}.png`), await png.toBuffer());
  }
  const swap: RunEvent = {
    type: "swap",
    step: 3,
    rewards: config.rewards.map((term) => ({ ...term, endpoint: "127.0.0.1:2", weight: 2 })),
    at: at(3),
  };
  const first = [0, 1, 2, 3].map((step) => stepEvent(step, step / 8));
  const before = await recordRun({ id: "run", folder, config, step: 0, events: [] }, { log });
  for (const event of [...first, swap, stepEvent(4, 0.5)]) before.record(event);
  await before.close();
  const file = join(folder, "tensorboard", "events.out.tfevents.000001");
  await truncate(file, (await readFile(file)).length - 7);

  const events = [...first.slice(0, 3), swap];
  const after = await recordRun({ id: "run", folder, config, step: 2, events }, { log });
  for (const step of [3, 4, 5, 6]) after.record(stepEvent(step, step));
  await after.close();
}

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "drtune-tensorboard-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Events of a file; fails where a checksum is wrong, stops where a record is cut short. */
async function readEvents(path: string): Promise<tensorboard.Event[]> {
  const bytes = new Uint8Array(await readFile(path));
  const view = new DataView(bytes.buffer);
  const events: tensorboard.Event[] = [];
  for (let at = 0; at + 12 <= bytes.length;) {
    const length = Number(view.getBigUint64(at, true));
    const end = at + 12 + length + 4;
    if (end > bytes.length) break;
    const data = bytes.slice(at + 12, end - 4);
    assert.deepEqual(bytes.slice(at, end), tfRecord(data));
    events.push(fromBinary(tensorboard.EventSchema, data));
    at = end;
  }
  return events;
}

Deno.test("A run that goes on writes a file of its own, which takes back what is done again", async () => {
  await inFolder(async (folder) => {
    await killedAndResumed(folder);
    const files = (await readdir(join(folder, "tensorboard"))).sort();
    assert.deepEqual(files, ["events.out.tfevents.000001", "events.out.tfevents.000002"]);
    const [before = [], after = []] = await Promise.all(
      files.map((name) => readEvents(join(folder, "tensorboard", name))),
    );
    for (const events of [before, after]) {
      assert.deepEqual(events[0]?.what, { case: "fileVersion", value: "brain.Event:2" });
      assert.equal(events[1]?.what.case, "sessionLog");
    }
    assert.deepEqual(after.map(({ step }) => Number(step)), [0, 3, 3, 3, 4, 5, 6]);
    // The record of step 4 was cut short.
    assert.deepEqual(before.map(({ step }) => Number(step)), [0, 1, 0, 0, 1, 2, 3, 3]);
    assert.equal(after.at(-1)?.wallTime, 1.7e9 + 6);
    assert.deepEqual(lines, []);
  });
});

Deno.test("A folder that cannot be written is said once, and the run goes on", async () => {
  await inFolder(async (folder) => {
    await writeFile(join(folder, "tensorboard"), "in the way");
    const said: string[] = [];
    const recorder = await recordRun(
      { id: "run", folder, config, step: 0, events: [] },
      { log: createLogger({ write: (line) => said.push(line) }) },
    );
    for (const step of [1, 2]) recorder.record(stepEvent(step, 1));
    await recorder.close();
    assert.equal(said.length, 1);
    assert.match(said[0] ?? "", /TensorBoard's event file cannot be written/);
  });
});

const python = findPython();

/** The accumulator that scripts use, and for texts the one behind TensorBoard's page: the former takes none back. */
const READ = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing import plugin_event_accumulator as page
p = page.EventAccumulator(sys.argv[1], size_guidance={page.TENSORS: 0}).Reload()
a = EventAccumulator(sys.argv[1], size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()
tags = a.Tags()
print(json.dumps({
    "scalars": {t: [[e.step, e.value] for e in a.Scalars(t)] for t in tags["scalars"]},
    "images": {t: [[e.step, e.width, e.height, len(e.encoded_image_string)] for e in a.Images(t)] for t in tags["images"]},
    "texts": {t: [e.tensor_proto.string_val[0].decode() for e in p.Tensors(t)] for t in tags["tensors"]},
    "steps": [e.step for e in p.Tensors("loss")],
}))
`;

Deno.test({
  name: "TensorBoard reads the curves, pictures and texts of a run that was killed and went on",
  ignore: python === undefined,
  fn: () =>
    inFolder(async (folder) => {
      await killedAndResumed(folder);
      const { stdout, stderr, success } = await new Deno.Command(python ?? "", {
        args: ["-c", READ, join(folder, "tensorboard")],
      }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
      const { scalars, images, texts, steps } = JSON.parse(new TextDecoder().decode(stdout));
      const reward = [[1, 1 / 8], [2, 2 / 8], [3, 3], [4, 4], [5, 5], [6, 6]];
      assert.deepEqual(scalars["reward/clip"], reward);
      assert.deepEqual(scalars["loss"], reward.map(([step = 0, v = 0]) => [step, -v]));
      assert.deepEqual(scalars["gradient_norm"], reward.map(([step = 0, v = 0]) => [step, 2 * v]));
      assert.equal(scalars["seconds/total"].length, 6);
      assert.deepEqual(steps, [1, 2, 3, 4, 5, 6]);
      assert.deepEqual(scalars["samples/clip"], [0, 2, 4, 6].map((step) => [step, 0.5]));
      const png = (await readFile(join(folder, "samples/0.png"))).length;
      assert.deepEqual(images, {
        "sample/3 an owl": [0, 2, 4, 6].map((step) => [step, 5, 4, png]),
      });
      assert.match(texts["config"][0], /"model": "fake"/);
      assert.equal(texts["rewards changed"].length, 1);
      assert.match(texts["rewards changed"][0], /\| clip \| 2 \| 127\.0\.0\.1:2 \|/);
    }),
});
