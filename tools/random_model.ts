/**
 * `deno task random-model`: writes files of random weights in the true shapes and formats of published models, to see
 * what a size costs without its weights: a diffusers folder (4.3 GB for sd15 in fp32, 7 GB for sdxl in fp16; in bf16 16 GB
 * for sd35-medium, 34 GB for flux, 16 GB for klein-4b, 21 GB for z-image, text encoders and all), or what a
 * reward is loaded from (hpsv2 2 GB in fp16, pickscore 4 GB, aesthetic 1.7 GB, owlvit 0.6 GB) and its record.
 *
 *     deno task random-model --kind sd15|sd21|sdxl --out FOLDER [--dtype fp32|fp16|bf16] [--seed 0]
 *     deno task random-model --kind sd35-medium|flux-dev|klein-4b|z-image --out FOLDER --dtype bf16 [--seed 0]
 *     deno task random-model --kind hpsv2|pickscore|aesthetic|owlvit --out FOLDER [--seed 0]
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { PUBLISHED_PIPELINES } from "../models/published/mod.ts";
import { REWARDS } from "./random_model/reward_kinds.ts";
import { DTYPES, writeRandomModel } from "./random_model/write.ts";
import { writeRandomReward } from "./random_model/write_reward.ts";

const { values } = parseArgs({
  options: {
    kind: { type: "string", default: "" },
    out: { type: "string", default: "" },
    dtype: { type: "string", default: "fp32" },
    seed: { type: "string", default: "0" },
  },
});

const chosen = <K extends string>(option: string, value: string, known: readonly K[]): K => {
  const found = known.find((name) => name === value);
  if (found !== undefined) return found;
  fail(`--${option} is ${JSON.stringify(value)}, expected ${known.join(" or ")}`);
};

function fail(message: string): never {
  console.error(message);
  process.exit(2);
}

const keysOf = <K extends string>(record: Readonly<Record<K, unknown>>) => {
  const keys: K[] = [];
  for (const key in record) keys.push(key);
  return keys;
};
const kind = chosen("kind", values.kind, [...keysOf(PUBLISHED_PIPELINES), ...keysOf(REWARDS)]);
const dtype = chosen("dtype", values.dtype, keysOf(DTYPES));
const seed = Number(values.seed);
if (values.out === "") fail("--out is missing, expected a folder to write");
if (!Number.isSafeInteger(seed) || seed < 0) {
  fail(`--seed is ${JSON.stringify(values.seed)}, expected a whole number`);
}
const tokenizer = fileURLToPath(new URL("../zoo/pipeline/tokenizer", import.meta.url));
const reward = REWARDS[kind];
if (reward !== undefined) {
  const tokenizer = fileURLToPath(new URL("../zoo/rewards/clip", import.meta.url));
  await writeRandomReward(values.out, { reward, tokenizer, seed });
} else {
  const files = PUBLISHED_PIPELINES[chosen("kind", kind, keysOf(PUBLISHED_PIPELINES))];
  await writeRandomModel(values.out, { files, dtype, tokenizer, seed });
}
