import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { extname } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { sizeOf } from "../../../autodiff/mod.ts";
import { openTorchFile, WeightsError, type WeightSource } from "../../weights/mod.ts";
import type { CheckpointKind } from "./_recognize.ts";

/** Steps after which Stable Diffusion 2's base model, which predicts noise, was saved. */
const BASE_OF_2 = 875_000;

/** latent-diffusion's configurations have 2 KB; the parser can be made to take long. */
const MAX_YAML_BYTES = 64 << 10;

const METADATA = "modelspec.prediction_type";

/** latent-diffusion's configuration: "eps" where it says nothing. */
const original = z.looseObject({
  model: z.looseObject({
    params: z.looseObject({ parameterization: z.enum(["eps", "v"]).default("eps") }),
  }),
});

/**
 * What a single-file checkpoint's U-Net predicts, the first of these that says it: an empty tensor "v_pred"; metadata of
 * trainers (modelspec.prediction_type); a latent-diffusion configuration beside the file, of its name in `.yaml`; the steps
 * that it was trained for, by which diffusers tells Stable Diffusion 2's base model. Else v for Stable Diffusion 2, noise
 * for the others. Throws `WeightsError` naming the file that says something else.
 */
export async function predictionOf(
  path: string,
  { whole, kind }: { readonly whole: WeightSource; readonly kind: CheckpointKind },
): Promise<"epsilon" | "v_prediction"> {
  if (whole.has("v_pred")) return "v_prediction";
  const noted = whole.metadata.get(METADATA);
  if (noted === "v" || noted === "v_prediction") return "v_prediction";
  if (noted === "epsilon") return "epsilon";
  if (noted !== undefined) {
    throw new WeightsError(
      path,
      `${METADATA} is ${JSON.stringify(noted.slice(0, 100))}, expected epsilon or v`,
    );
  }
  const beside = `${path.slice(0, -extname(path).length)}.yaml`;
  if (existsSync(beside)) {
    return await parameterization(beside) === "v" ? "v_prediction" : "epsilon";
  }
  if (kind !== "v2") return "epsilon";
  return await globalStep(path, whole) === BASE_OF_2 ? "epsilon" : "v_prediction";
}

async function parameterization(path: string): Promise<"eps" | "v"> {
  const { size } = await stat(path);
  if (size > MAX_YAML_BYTES) {
    throw new WeightsError(path, `has ${size} bytes, expected at most ${MAX_YAML_BYTES}`);
  }
  let found: unknown;
  try {
    found = parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw new WeightsError(path, "is no YAML, expected the checkpoint's configuration", { cause });
  }
  const parsed = original.safeParse(found);
  if (parsed.success) return parsed.data.model.params.parameterization;
  const [issue] = parsed.error.issues;
  throw new WeightsError(
    path,
    `"${issue?.path.join(".")}" is not understood, expected latent-diffusion's model.params, ` +
      "with parameterization eps or v",
  );
}

/** How long the model was trained: a tensor of the file, or a number that a training program left in it. */
async function globalStep(path: string, whole: WeightSource): Promise<number | undefined> {
  if (whole.has("global_step")) {
    if (sizeOf(whole.get("global_step").shape) !== 1) return undefined;
    return Number((await whole.read("global_step")).data[0]);
  }
  return extname(path) === ".safetensors" ? undefined : openTorchFile(path).numbers.get(
    "global_step",
  );
}
