import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import type { Tensor } from "../../autodiff/mod.ts";
import { openSafetensors } from "../weights/mod.ts";
import type { AdaptableLayer } from "./adapter.ts";
import { fromLoraFile, type Lora } from "./lora_file.ts";
import { LoraError } from "./lora_error.ts";

/** An adapter read from a file. */
export interface LoadedLora {
  readonly lora: Lora;
  readonly path: string;
  /** sha256 (hex) of the file. */
  readonly sha256: string;
  /** What its header says besides the tensors. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Names that diffusers and PEFT give a LoRA file in a folder of its own. */
const NAMES = ["pytorch_lora_weights.safetensors", "adapter_model.safetensors"] as const;
const PEFT_CONFIG = "adapter_config.json";

/** Exceptions for some layers. */
const none = z.record(z.string(), z.unknown()).nullish().refine(
  (pattern) => Object.keys(pattern ?? {}).length === 0,
  "expected {}: one for all layers",
);

/** What of PEFT's configuration decides the numbers. */
const peftSchema = z.looseObject({
  peft_type: z.literal("LORA"),
  lora_alpha: z.number().positive(),
  use_dora: z.literal(false).nullish(),
  use_rslora: z.literal(false).nullish(),
  alpha_pattern: none,
  rank_pattern: none,
  bias: z.literal("none").nullish(),
  fan_in_fan_out: z.literal(false).nullish(),
});

/**
 * Reads an adapter in diffusers', PEFT's or kohya's names from a safetensors file, or from a folder that holds one as
 * diffusers or PEFT save it. PEFT's scale is in `adapter_config.json` beside the file. Throws `LoraError` naming what
 * does not fit a U-Net with these layers (see `fromLoraFile`), and `WeightsError` for what is no safetensors file.
 */
export async function loadLora(
  path: string,
  layers: readonly AdaptableLayer[],
): Promise<LoadedLora> {
  const file = fileOf(path);
  const source = openSafetensors(file);
  const tensors: Record<string, Tensor> = {};
  for (const name of source.tensors.keys()) tensors[name] = await source.read(name);
  const metadata = Object.fromEntries(source.metadata);
  const alpha = peftAlpha(file);
  const lora = fromLoraFile({ tensors, metadata }, {
    layers,
    path: file,
    ...(alpha !== undefined && { alpha }),
  });
  return { lora, path: file, sha256: await source.sha256(), metadata };
}

function fileOf(path: string): string {
  if (!existsSync(path)) throw new LoraError(path, "is not there");
  if (!statSync(path).isDirectory()) return path;
  const [found, ...more] = NAMES.map((name) => join(path, name)).filter((p) => existsSync(p));
  if (found !== undefined && more.length === 0) return found;
  throw new LoraError(path, `is a folder, expected one of ${NAMES.join(" and ")} in it`);
}

function peftAlpha(file: string): number | undefined {
  const path = join(dirname(file), PEFT_CONFIG);
  if (basename(file) !== "adapter_model.safetensors" || !existsSync(path)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new LoraError(path, "is not valid JSON", { cause });
  }
  const result = peftSchema.safeParse(value, { reportInput: true });
  if (result.success) return result.data.lora_alpha;
  const [issue] = result.error.issues;
  throw new LoraError(
    path,
    `"${issue?.path.join(".")}" is ${JSON.stringify(issue?.input)}, expected ${
      issue?.message.replace(/^(?:[^:]*: )?expected /, "") ?? "another value"
    }`,
  );
}
