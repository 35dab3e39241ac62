import assert from "node:assert/strict";
import { PIPELINE_CLASSES, REFUSED_PIPELINES } from "../../models/diffusers/mod.ts";
import {
  REFUSED_SCHEDULERS,
  SCHEDULER_CLASSES,
  schedulerConfigSchema,
  SOLVER_FIELDS,
} from "../../trainer/mod.ts";
import { repositoryPath } from "../models/mod.ts";

// The tables of docs/model_files.md are made here of what the readers themselves go by. UPDATE_DOCS=1 writes them.

const DOCUMENT = repositoryPath("docs/model_files.md");

/** What a field decides, by the sampler that it counts for; all others decide for every sampler. */
const COUNTS_FOR: Readonly<Record<string, string>> = {
  trained_betas: "all",
  timestep_type: "refused unless it has its default",
  snr_shift_scale: "refused unless it has its default",
  predict_epsilon: "refused unless it has its default",
  clip_sample_range: "nothing: latents are never clipped",
  set_alpha_to_one: "ddim",
  algorithm_type: "nothing: the sampler is dpmsolver++; said where it differs",
  solver_type: "dpmsolver++ (midpoint, heun; others are midpoint)",
  solver_order: "dpmsolver++ (3 is taken as 2, and said)",
  original_inference_steps: "lcm",
  timestep_scaling: "lcm",
  lower_order_final: "dpmsolver++",
  euler_at_final: "dpmsolver++",
  final_sigmas_type: "dpmsolver++",
  use_karras_sigmas: "dpmsolver++",
  use_exponential_sigmas: "dpmsolver++",
  use_lu_lambdas: "dpmsolver++",
  lambda_min_clipped: "dpmsolver++",
  sigma_min: "dpmsolver++",
  sigma_max: "dpmsolver++",
};

function fieldRow(field: string): readonly [string, string] {
  const own = SOLVER_FIELDS.find((f) => f.field === field);
  if (own !== undefined) {
    return [field, `${own.kinds.join(", ")}; values that they do not do are refused`];
  }
  const known = COUNTS_FOR[field];
  if (known !== undefined) return [field, known];
  const values = [true, 0.125, "some text", [0.5]];
  const taken = (value: unknown) => schedulerConfigSchema.safeParse({ [field]: value }).success;
  if (values.every(taken)) return [field, "nothing: it belongs to what is not here"];
  if (!values.some(taken) && taken(null) && !taken([])) {
    return [field, taken(false) ? "refused unless off" : "refused unless it has its default"];
  }
  return [field, "all"];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

const code = (text: string) => `\`${text}\``;
const TABLES: Readonly<Record<string, string>> = {
  pipelines: table(["`_class_name` of model_index.json", "what happens"], [
    ...Object.entries(PIPELINE_CLASSES).map(([name, kind]) => [
      code(name),
      `read as Stable Diffusion ${kind === "sd" ? "1 or 2" : "XL"}`,
    ]),
    ...Object.entries(REFUSED_PIPELINES).map(([name, why]) => [code(name), `refused: ${why}`]),
  ]),
  schedulers: table(["`_class_name` of scheduler_config.json", "what happens"], [
    ...SCHEDULER_CLASSES.map((name) => [code(name), "its noise schedule is taken"]),
    ...Object.entries(REFUSED_SCHEDULERS).map(([name, why]) => [code(name), `refused: ${why}`]),
  ]),
  fields: table(
    ["field", "counts for"],
    Object.keys(schedulerConfigSchema.shape).filter((field) => !field.startsWith("_"))
      .map((field) => fieldRow(field)).map(([field, what]) => [code(field), what]),
  ),
};

Deno.test("docs/model_files.md says what the readers do", async () => {
  let text = await Deno.readTextFile(DOCUMENT);
  for (const [name, made] of Object.entries(TABLES)) {
    const [from, to] = [`<!-- ${name} -->\n`, `<!-- end of ${name} -->`];
    const [start, end] = [text.indexOf(from) + from.length, text.indexOf(to)];
    assert.ok(start >= from.length && end >= start, `${name} has its place`);
    // Cells may be padded by the formatter.
    const plain = (t: string) => t.trim().replaceAll(/ *\| */g, "|").replaceAll(/-{3,}/g, "---");
    if (Deno.env.get("UPDATE_DOCS")) {
      text = `${text.slice(0, start)}\n${made}\n\n${text.slice(end)}`;
    } else assert.equal(plain(text.slice(start, end)), plain(made), name);
  }
  if (Deno.env.get("UPDATE_DOCS")) await Deno.writeTextFile(DOCUMENT, text);
  for (const field of Object.keys(COUNTS_FOR)) {
    assert.ok(field in schedulerConfigSchema.shape, field);
  }
});
