import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { float32 } from "../../autodiff/mod.ts";
import { parseConfig } from "../parse_config.ts";
import { schedulerConfigSchema } from "../samplers/mod.ts";
import { FakeReward } from "../testing/mod.ts";
import {
  openRunModel,
  prepareRunConfig,
  readCheckpoint,
  type RunDependencies,
  RunStore,
} from "./mod.ts";
import { captionedFiles, digestOf, pretrainingRows, readPretraining } from "./pretraining.ts";

/** A picture of one colour. */
const picture = (background: string, size = { width: 6, height: 4 }) =>
  sharp({ create: { ...size, channels: 3, background } }).png().toBuffer();

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "drtune-pictures-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("pictures have captions beside them or in metadata.jsonl, and are refused without", () =>
  inFolder(async (folder) => {
    await assert.rejects(
      captionedFiles(join(folder, "none")),
      /Field pretrain\.folder cannot be read/,
    );
    await assert.rejects(captionedFiles(folder), /Field pretrain\.folder has no picture/);
    await mkdir(join(folder, "sub"));
    await writeFile(join(folder, "sub", "b.PNG"), await picture("red"));
    await writeFile(join(folder, "a.jpg"), await picture("blue"));
    await writeFile(join(folder, "notes.md"), "no picture");
    await writeFile(join(folder, "a.txt"), " a fox \n");
    await assert.rejects(
      captionedFiles(folder),
      /has no caption of sub\/b\.PNG, expected one in sub\/b\.txt/,
    );
    await writeFile(join(folder, "sub", "b.txt"), "books");
    const files = await captionedFiles(folder);
    assert.deepEqual(files.map(({ caption }) => caption), ["a fox", "books"]);
    const before = await digestOf(files);
    await writeFile(
      join(folder, "metadata.jsonl"),
      '{"file_name": "a.jpg", "text": "a cat"}\n[]\n',
    );
    await assert.rejects(captionedFiles(folder), /metadata\.jsonl whose line 2 is no object/);
    await writeFile(join(folder, "metadata.jsonl"), '{"file_name": "a.jpg", "text": "a cat"}\n');
    await assert.rejects(captionedFiles(folder), /no caption of sub\/b\.PNG, .* metadata\.jsonl/);
    // As PowerShell writes it: a mark, backslashes, carriage returns.
    const windows =
      '{"file_name": "sub\\\\b.PNG", "text": "books"}\r\n{"file_name": "./a.jpg", "text": "é"}\r\n';
    await writeFile(join(folder, "metadata.jsonl"), `\ufeff${windows}`);
    assert.deepEqual((await captionedFiles(folder)).map(({ caption }) => caption), ["é", "books"]);
    await writeFile(join(folder, "metadata.jsonl"), Uint8Array.of(0x22, 0xe9, 0x22));
    await assert.rejects(
      captionedFiles(folder),
      /Field pretrain\.folder has a file that cannot be read/,
    );
    await writeFile(join(folder, "metadata.jsonl"), '{"file_name": "a.jpg", "text": "a cat"}\n');
    await rm(join(folder, "sub"), { recursive: true });
    assert.deepEqual((await captionedFiles(folder)).map(({ caption }) => caption), ["a cat"]);
    assert.notEqual(await digestOf(await captionedFiles(folder)), before);
  }));

Deno.test("pictures cover the image, and what is drawn of them is a function of the seed", () =>
  inFolder(async (folder) => {
    const half = { input: await picture("white", { width: 8, height: 8 }), left: 0, top: 0 };
    const wide = await sharp(await picture("black", { width: 24, height: 8 })).composite([half])
      .png().toBuffer();
    await writeFile(join(folder, "a.png"), wide);
    await writeFile(join(folder, "a.txt"), "a fox");
    await writeFile(join(folder, "b.png"), await sharp(wide).greyscale().png().toBuffer());
    await writeFile(join(folder, "b.txt"), "books");
    const seen: number[][] = [];
    const pretraining = await readPretraining(await captionedFiles(folder), {
      ...{ height: 8, width: 8, scale: 2, shift: 0.25 },
      encode: (image) => {
        assert.deepEqual(image.shape, [1, 3, 8, 8]);
        seen.push([image.data[0] ?? NaN, image.data.at(-1) ?? NaN]);
        return Promise.resolve(float32([1, 1, 1, 1, -60, -60, -60, -60], [1, 2, 2, 2]));
      },
    });
    // The middle third of the wide picture is black, also where it has one channel.
    assert.ok(seen.length === 2 && seen.flat().every((v) => v < 0.1), JSON.stringify(seen));
    const scheduler = parseConfig(schedulerConfigSchema, {});
    const config = { seed: 3, batch: { size: 3, accumulation: 1 } };
    const rows = (first: number, count: number, iteration = 2) =>
      pretrainingRows(pretraining, { config, scheduler, first, count, iteration });
    const all = rows(0, 3);
    assert.deepEqual([...rows(0, 1), ...rows(1, 2)], all);
    assert.notDeepEqual(rows(0, 3, 3), all);
    // (mean - shift) * scale; the logarithm of the variance is clamped to -30.
    assert.ok(all.every(({ clean }) => clean.data.every((v) => Math.abs(v - 1.5) < 1e-5)));
    const captions = [1, 2].flatMap((n) => rows(0, 3, n)).map(({ caption }) => caption);
    assert.deepEqual(captions.toSorted(), ["a fox", "a fox", "a fox", "books", "books", "books"]);
  }));

const golden = new URL("../../tests/golden/", import.meta.url).pathname;

for (const model of ["tiny-sd", "flow/tiny-sd3"]) {
  Deno.test(`a run is held to pictures, and goes on bit for bit: ${model}`, () =>
    inFolder(async (root) => {
      await cp(join(golden, model), join(root, "model"), { recursive: true });
      const pictures = join(root, "pictures");
      await mkdir(pictures);
      for (const [name, colour] of [["a", "orange"], ["b", "navy"]] as const) {
        await writeFile(join(pictures, `${name}.png`), await picture(colour));
        await writeFile(join(pictures, `${name}.txt`), `a ${colour} wall`);
      }
      const config = {
        model: "model",
        prompts: ["a fox"],
        rewards: [{ name: "fake", endpoint: "reward:1" }],
        method: { name: "drtune", k: 1, m: 1 },
        sampler: { steps: 2 },
        guidance: { scale: 3 },
        lora: { rank: 2 },
        latentHeight: 8,
        latentWidth: 8,
        sampleEvery: 0,
        checkpointEvery: 0,
        memoryLimit: 4,
      };
      const held = { pretrain: { folder: "pictures", weight: 50 } };
      const dependencies: RunDependencies = {
        prepare: (value) => prepareRunConfig(value, { root }),
        openModel: async (c) => {
          const opened = await openRunModel(c, { root, session: { intraOpNumThreads: 1 } });
          // Nobody reads an estimate here, and measuring speeds takes longer than the run.
          const { plan: _, ...others } = opened;
          return others;
        },
        connect: () => Promise.resolve(new FakeReward(0.2)),
      };
      await mkdir(join(root, "runs"));
      const store = await RunStore.open(join(root, "runs"), dependencies);
      const done = async (id: string, iterations: number, more: object = held) => {
        const { run } = await store.start(id, { ...config, iterations, ...more });
        for await (const event of run.log.watch(0)) void event;
        assert.equal(run.state, "finished", String(run.log.lastState?.reason));
        return run;
      };
      const whole = await done("whole", 2);
      const parts = await done("parts", 1);
      await store.resume("parts", 2);
      for await (const event of parts.log.watch(0)) void event;
      const [a, b] = await Promise.all(
        [whole, parts].map((r) => readCheckpoint(r.folder.checkpoints, 2)),
      );
      assert.deepEqual(a, b);
      const plain = await done("plain", 1, {});
      const losses = [whole, plain].map(({ log }) => log.stepOf(1)?.loss ?? NaN);
      // The rewards' part is the same in the first iteration.
      assert.ok((losses[0] ?? 0) > (losses[1] ?? NaN) + 1, JSON.stringify(losses));

      // Other pictures under a run would be another run.
      await writeFile(join(pictures, "a.txt"), "a grey wall");
      await store.resume("parts", 3);
      for await (const event of parts.log.watch(0)) void event;
      assert.equal(parts.state, "failed");
      assert.match(
        parts.log.lastState?.reason ?? "",
        /Field pretrain\.sha256 is [0-9a-f]{64}, but/,
      );
      await assert.rejects(
        prepareRunConfig({ ...config, pretrain: { folder: "../pictures" } }, { root }),
        /Field pretrain\.folder is "\.\.\/pictures", expected a path inside the model root/,
      );
      await store.close();
    }));
}
