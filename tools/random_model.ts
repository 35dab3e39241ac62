/**
 * `deno task random-model`: writes a complete diffusers folder of random weights in the true shapes of a published
 * pipeline, to see what a size costs without its weights. About 4.3 GB for sd15 in fp32, 7 GB for sdxl in fp16.
 *
 *     deno task random-model --kind sd15|sdxl --out FOLDER [--dtype fp32|fp16] [--seed 0]
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { KINDS } from "./random_model/kinds.ts";
import { DTYPES, writeRandomModel } from "./random_model/write.ts";

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
const kind = chosen("kind", values.kind, keysOf(KINDS));
const dtype = chosen("dtype", values.dtype, keysOf(DTYPES));
const seed = Number(values.seed);
if (values.out === "") fail("--out is missing, expected a folder to write");
if (!Number.isSafeInteger(seed) || seed < 0) {
  fail(`--seed is ${JSON.stringify(values.seed)}, expected a whole number`);
}
const tokenizer = fileURLToPath(new URL("../zoo/pipeline/tokenizer", import.meta.url));
await writeRandomModel(values.out, { files: KINDS[kind], dtype, tokenizer, seed });
