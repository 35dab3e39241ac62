import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { float32 } from "../../autodiff/mod.ts";
import { decodeImage, loadReward } from "../../rewards/mod.ts";
import { withFolder } from "../support/mod.ts";

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));

const PROMPTS = [
  "a panda on a pink background",
  "a rocket on a black background",
  "a red apple on a blue background",
  "a strawberry and a clock on a white background",
];

Deno.test("The embedded flow-matching pipeline draws what it is asked for: CLIP finds each picture's prompt among four", () =>
  withFolder(async (folder) => {
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--allow-all", "--no-check", path("services/cli/main.ts"), "sample"],
        ...[
          "--model",
          path("zoo/flow_pipeline"),
          "--steps",
          "12",
          "--guidance",
          "4",
          "--images",
          "2",
        ],
        ...["--seed", "7", "--out", folder, ...PROMPTS.flatMap((p) => ["--prompt", p])],
      ],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    const names = [...Deno.readDirSync(folder)].map((f) => f.name).filter((n) =>
      /^\d+_seed/.test(n)
    );
    const pictures = await Promise.all(names.sort().map((name) => decodeImage(join(folder, name))));
    assert.equal(pictures.length, 2 * PROMPTS.length);
    const reward = await loadReward(
      { kind: "clip", weights: path("zoo/rewards/clip") },
      { cacheDir: folder, selfCheck: false },
    );
    let found = 0;
    for (const [i, { data, shape }] of pictures.entries()) {
      const copies = float32(new Float32Array(PROMPTS.length * data.length), [
        PROMPTS.length,
        ...shape.slice(1),
      ]);
      for (const j of PROMPTS.keys()) copies.data.set(data, j * data.length);
      const { scores } = await reward.score(copies, PROMPTS);
      const best = scores.indexOf(Math.max(...scores));
      if (best === Math.floor(i / 2)) found++;
    }
    await reward.dispose();
    // By chance 2 of 8, with a deviation of 1.2.
    assert.ok(found >= 7, `CLIP finds the prompts of ${found} of 8 pictures`);
  }));
