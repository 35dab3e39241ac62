import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openSafetensors } from "../../models/weights/mod.ts";
import { loadReward } from "../load_reward.ts";

const FOLDER = fileURLToPath(new URL("../testdata/published/onnx/", import.meta.url));

/** Models of which the score and its derivative along a direction are published, by ONNX Runtime in float32. */
const SCORES: Readonly<Record<string, readonly [number, number | null]>> = JSON.parse(
  await Deno.readTextFile(join(FOLDER, "scores.json")),
);

/** What a model's file does not say. Those that read 16x16 pixels need a fit. */
const OPTIONS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  // The published score is of the first channel, not of grey.
  grey1: { channels: "R" },
  uint8_nhwc: { layout: "NHWC" },
};

/** Score of float32, and its differences in steps of 1e-3. */
const TOLERANCE = { score: 2e-5, slope: 2e-3 };

const image = await openSafetensors(join(FOLDER, "image.safetensors")).readFloat32("x");
const direction = await openSafetensors(join(FOLDER, "direction.safetensors")).readFloat32("x");

const load = (name: string, options: Readonly<Record<string, unknown>> = {}) =>
  loadReward({ kind: "onnx", weights: `${name}.onnx`, size: 16, fit: "stretch", ...options }, {
    baseDir: FOLDER,
    threads: 1,
  });

for (const [name, [expected, slope]] of Object.entries(SCORES)) {
  if (!existsSync(join(FOLDER, `${name}.onnx`))) continue;
  Deno.test(`a published model scores and differentiates as ONNX Runtime does: ${name}`, async () => {
    const reward = await load(name, OPTIONS[name]);
    try {
      const { scores, gradient } = await reward.score(image, [], { gradient: true });
      const largest = Math.max(1, Math.abs(expected));
      const off = Math.abs((scores[0] ?? NaN) - expected) / largest;
      assert.ok(off <= TOLERANCE.score, `score is ${scores[0]}, expected ${expected}`);
      if (slope === null) return;
      const along = gradient?.data.reduce((sum, g, i) => sum + g * (direction.data[i] ?? NaN), 0);
      const error = Math.abs((along ?? NaN) - slope);
      assert.ok(error <= TOLERANCE.slope * largest, `slope is ${along}, expected ${slope}`);
    } finally {
      await reward.dispose();
    }
  });
}

for (const name of ["fp16_io", "offset_1e4", "sat_1e-4", "sat_1e-6"]) {
  Deno.test(`the check on load has no false alarm: ${name}`, async () => {
    const reward = await load(name);
    assert.ok(reward.info.selfCheck !== undefined);
    const { relativeError, isHidden } = reward.info.selfCheck;
    assert.ok(isHidden === true || (relativeError ?? 1) < 0.13, `${relativeError}`);
    await reward.dispose();
  });
}
