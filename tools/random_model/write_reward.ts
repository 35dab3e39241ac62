import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Tensor } from "../../autodiff/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { copyToSafetensors } from "../../models/weights/mod.ts";
import type { RewardFile, RewardFolder } from "./reward_kinds.ts";
import { randomWeight, toHalf, TOKENIZER } from "./write.ts";
import { writeTorch } from "./write_torch.ts";

/**
 * Writes a reward's folder with random weights, one tensor in memory at a time, and the record that loads it as
 * `reward.json`. Equal arguments give equal bytes.
 */
export async function writeRandomReward(
  folder: string,
  { reward: { weights, json, record }, tokenizer, seed = 0 }: {
    readonly reward: RewardFolder;
    /** Folder of a tokenizer whose vocabulary fits the embedding. */
    readonly tokenizer: string;
    readonly seed?: number;
  },
): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const file of weights) await writeFileOf(join(folder, file.path), file, seed);
  for (const [path, value] of Object.entries({ ...json, "reward.json": record })) {
    await writeFile(join(folder, path), `${JSON.stringify(value, null, 2)}\n`);
  }
  for (const file of TOKENIZER) await cp(join(tokenizer, file), join(folder, file));
}

async function writeFileOf(
  path: string,
  { dtype, shapes, key }: RewardFile,
  seed: number,
): Promise<void> {
  const streams = new Map([...shapes.keys()].map((name, i) => [name, i]));
  const read = (name: string): Tensor => {
    // PyTorch begins with a temperature of 1/0.07.
    const scale = name.endsWith("logit_scale");
    const values = randomWeight(name, shapes.get(name) ?? [], new Random(seed, streams.get(name)));
    if (scale) values.data.fill(Math.log(1 / 0.07));
    return dtype === "float32" ? values : toHalf(values);
  };
  if (!path.endsWith(".safetensors")) return await writeTorch(path, { dtype, shapes, read }, key);
  await copyToSafetensors(path, {
    tensors: new Map([...shapes].map(([name, shape]) => [name, { dtype, shape }])),
    read: (name) => Promise.resolve(read(name)),
  }, { format: "pt" });
}
