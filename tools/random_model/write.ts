import { cp, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { float32, type Shape, sizeOf, type Tensor } from "../../autodiff/mod.ts";
import { Random } from "../../models/random/mod.ts";
import {
  copyToSafetensors,
  float32ToBfloat16,
  float32ToFloat16,
} from "../../models/weights/mod.ts";
import { type ModelFiles, networksOf } from "../../models/published/mod.ts";

/** Element types a folder can be written in. */
export const DTYPES = { bf16: "bfloat16", fp16: "float16", fp32: "float32" } as const;

/** Files of a small CLIP tokenizer. Its ids are rows of an embedding of the full size. */
export const TOKENIZER = [
  "merges.txt",
  "special_tokens_map.json",
  "tokenizer_config.json",
  "vocab.json",
];

const GOLDEN = fileURLToPath(new URL("../../tests/golden/flow", import.meta.url));

/** Small tokenizers of the other kinds. */
const TOKENIZERS = [
  { of: "T5Tokenizer", folder: "tiny-sd3/tokenizer_3" },
  { of: "Qwen2Tokenizer", folder: "tiny-zimage/tokenizer" },
] as const;

/**
 * Writes a diffusers folder with random weights of exactly the shapes that `files` describe, one tensor in memory at a
 * time. Equal arguments give equal bytes. `tokenizer` is the folder of one whose vocabulary fits the embedding.
 */
export async function writeRandomModel(
  folder: string,
  { files, dtype, tokenizer, seed = 0 }: {
    readonly files: ModelFiles;
    readonly dtype: keyof typeof DTYPES;
    readonly tokenizer: string;
    readonly seed?: number;
  },
): Promise<void> {
  let stream = 0;
  for (const { file, shapes } of networksOf(files)) {
    const path = join(folder, file);
    await mkdir(dirname(path), { recursive: true });
    const streams = new Map([...shapes.keys()].map((name) => [name, stream++]));
    await copyToSafetensors(path, {
      tensors: new Map([...shapes].map(([name, shape]) => [name, { dtype: DTYPES[dtype], shape }])),
      read: (name) => {
        const random = new Random(seed, streams.get(name));
        const values = randomWeight(name, shapes.get(name) ?? [], random);
        const convert = { bf16: toBfloat16, fp16: toHalf, fp32: (t: Tensor) => t }[dtype];
        return Promise.resolve(convert(values));
      },
    }, { format: "pt" });
  }
  for (const [path, value] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), `${JSON.stringify(value, null, 2)}\n`);
  }
  const index = files["model_index.json"] ?? {};
  for (const name of ["tokenizer", "tokenizer_2", "tokenizer_3"]) {
    if (!(name in index)) continue;
    const other = TOKENIZERS.find(({ of }) => String(index[name]).includes(of));
    if (other !== undefined) {
      await mkdir(join(folder, name), { recursive: true });
      for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
        await cp(join(GOLDEN, other.folder, file), join(folder, name, file));
      }
      continue;
    }
    for (const file of TOKENIZER) await cp(join(tokenizer, file), join(folder, name, file));
    // The context of CLIP, whatever the borrowed tokenizer was made for.
    const path = join(folder, name, "tokenizer_config.json");
    const config = JSON.parse(await Deno.readTextFile(path));
    await writeFile(path, JSON.stringify({ ...config, model_max_length: 77 }, null, 2));
  }
}

/** Scaled as PyTorch initializes layers, uniform in ±1/√(inputs), which keeps activations of the order of 1. */
export function randomWeight(
  name: string,
  shape: Shape,
  random: Random,
): ReturnType<typeof float32> {
  const data = new Float32Array(sizeOf(shape));
  // A variance is no less than 0.
  const isNorm = shape.length === 1 && /(weight|running_var)$/.test(name);
  const fanIn = sizeOf(shape.slice(1));
  const bound = shape.length === 1 || name.includes("embedding.weight")
    ? 0.02
    : 1 / Math.sqrt(fanIn);
  if (isNorm) data.fill(1);
  else fillUniform(data, bound, random);
  return float32(data, shape);
}

/** Uniform in ±bound by xorshift (Marsaglia, 2003), several hundred million numbers a second; seeded by `random`. */
function fillUniform(data: Float32Array, bound: number, random: Random): void {
  let word = random.uint32() | 1;
  const scale = bound / 2 ** 31;
  for (let i = 0; i < data.length; i++) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    data[i] = word * scale;
  }
}

/** In float32's range with 8 bits. */
function toBfloat16({ data, shape }: ReturnType<typeof float32>): Tensor {
  return { dtype: "bfloat16", shape, data: float32ToBfloat16(data) };
}

/** In half precision. */
export function toHalf({ data, shape }: ReturnType<typeof float32>): Tensor {
  return { dtype: "float16", shape, data: float32ToFloat16(data) };
}
