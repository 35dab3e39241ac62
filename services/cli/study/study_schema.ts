import { z } from "zod";
import { COMPUTE_KINDS } from "../../../trainer/mod.ts";

/** Fields of a run's configuration, as in its YAML; what they mean is checked once they stand together. */
const runFields = z.record(z.string(), z.unknown());

const label = z.string().regex(
  /^[^\p{C}<>|]{1,40}$/u,
  "expected 1 to 40 characters, none of them <, > or |",
);
const seeds = z.array(z.int().min(0).max(2 ** 32 - 1)).min(1).refine(
  (all) => new Set(all).size === all.length,
  "expected distinct seeds",
);
const seconds = z.number().positive().max(1e7);

/** The pictures by which a run is judged: the same prompts and seeds for every run. */
const measureSchema = z.strictObject({
  /** File of one prompt a line, in the folder of models. Default: what the run itself holds out. */
  prompts: z.string().min(1).optional(),
  /** Of each prompt's first picture; the following ones take the next. */
  seed: z.int().min(0).max(2 ** 31),
  imagesPerPrompt: z.int().min(1).max(1000),
});

/** How settings are chosen that methods may need otherwise: by one rule for all, on other pictures than are reported. */
const chooseSchema = z.strictObject({
  /** Axes: each of their values, or combination of values, gets a choice of its own. */
  per: z.array(z.string()).min(1),
  /** What there is to choose from, by name. */
  candidates: z.record(label, runFields),
  /** Values of the other axes whose runs decide. */
  on: z.record(z.string(), z.array(label).min(1)),
  seeds,
  /** Part of the study's budget that a trial gets. */
  share: z.number().positive().max(1),
  measure: measureSchema,
});

/** How results are drawn. */
const plotSchema = z.discriminatedUnion("kind", [
  /** A row for each value of an axis, a panel for each of another one's. */
  z.strictObject({ kind: z.literal("rows"), rows: z.string(), panels: z.string() }),
  /** A curve for each value of an axis over a quantity of the run, a panel for each of another one's. */
  z.strictObject({
    kind: z.literal("curves"),
    x: z.enum(["k/T", "m/T", "k", "m", "T"]),
    curves: z.string(),
    panels: z.string(),
  }),
  /** The trained reward against compute: a curve for each value of an axis, a panel for each of another one's. */
  z.strictObject({ kind: z.literal("training"), curves: z.string(), panels: z.string() }),
  /** What the judges of the runs' own panels lost against what was trained: a frontier for each value of an axis. */
  z.strictObject({ kind: z.literal("frontier"), curves: z.string(), panels: z.string() }),
]);

/** A grid of runs: every value of every axis with every other, at every seed. */
const gridSchema = z.strictObject({
  kind: z.literal("grid").default("grid"),
  title: z.string().min(1),
  /** What it is to find out, in a sentence or a few. */
  question: z.string().min(1),
  /** What all runs have in common. */
  base: runFields,
  /** By name: values, by theirs, each the fields in which its runs differ. Later axes win over earlier ones. */
  axes: z.record(label, z.record(label, runFields)).refine(
    (axes) => Object.values(axes).every((values) => Object.keys(values).length > 0),
    "expected values for every axis",
  ),
  /** Cells that are left out, each by values of some axes, such as an m that is not below its T. */
  skip: z.array(z.record(label, label)).default([]),
  seeds,
  /** Seconds of compute of the training process after which a run ends. */
  budget: seconds,
  /** What is counted, as in a run's `budget.of`. */
  compute: z.enum(COMPUTE_KINDS).default("cpu"),
  choose: chooseSchema.optional(),
  measure: measureSchema,
  /** Rewards that every run is judged by besides its own, by their names in the stack. */
  judges: z.array(z.string().min(1)).default([]),
  plots: z.array(plotSchema).min(1),
});

/** The gradient's norm against K of DRaFT-K, with and without the input stop-gradient; no run is trained. */
const gradientNormSchema = z.strictObject({
  kind: z.literal("gradient-norm"),
  title: z.string().min(1),
  question: z.string().min(1),
  /** In the folder of models. */
  model: z.string().min(1),
  /** LoRA file, in the folder of the study's file; besides a new LoRA. */
  lora: z.string().optional(),
  rank: z.int().min(1).default(16),
  /** Record of the reward; its paths are in the folder of models. */
  reward: z.looseObject({ kind: z.string() }),
  sampler: z.strictObject({ kind: z.enum(["ddpm", "ddim"]), steps: z.int().min(1).max(1000) }),
  guidance: z.number(),
  prompts: z.string().min(1),
  seeds,
});

/** From which step on the prompt, or the noise, no longer decides what a picture shows; no run is trained. */
const compositionSchema = z.strictObject({
  kind: z.literal("composition"),
  title: z.string().min(1),
  question: z.string().min(1),
  /** Folders of pipelines in the folder of models, by name. */
  models: z.record(label, z.string().min(1)),
  /** Record of a CLIP reward that tells which prompt a picture shows. */
  reward: z.looseObject({ kind: z.string() }),
  sampler: z.strictObject({
    kind: z.enum(["ddpm", "ddim", "flow-euler"]).optional(),
    steps: z.int().min(1).max(1000),
    eta: z.number().min(0).max(1).optional(),
  }),
  guidance: z.number(),
  prompts: z.string().min(1),
  seeds,
});

/** A study, as its file says. */
export const studySchema = z.discriminatedUnion("kind", [
  gridSchema,
  gradientNormSchema,
  compositionSchema,
]).superRefine((study, context) => {
  if (study.kind !== "grid") return;
  const known = Object.keys(study.axes);
  const unknown = (path: readonly PropertyKey[], name: string) => {
    if (known.includes(name)) return;
    context.addIssue({
      code: "custom",
      path: [...path],
      message: `is ${JSON.stringify(name)}, expected an axis: ${known.join(", ")}`,
    });
  };
  for (const [i, plot] of study.plots.entries()) {
    const axes = plot.kind === "rows"
      ? { rows: plot.rows, panels: plot.panels }
      : { curves: plot.curves, panels: plot.panels };
    for (const [field, name] of Object.entries(axes)) unknown(["plots", i, field], name);
  }
  const { choose } = study;
  choose?.per.forEach((name, i) => unknown(["choose", "per", i], name));
  for (const [axis, values] of Object.entries(choose?.on ?? {})) {
    unknown(["choose", "on", axis], axis);
    const there = Object.keys(study.axes[axis] ?? {});
    values.forEach((value, i) => {
      if (there.length === 0 || there.includes(value)) return;
      context.addIssue({
        code: "custom",
        path: ["choose", "on", axis, i],
        message: `is ${JSON.stringify(value)}, expected one of ${there.join(", ")}`,
      });
    });
  }
});

/** A study, checked. */
export type Study = z.infer<typeof studySchema>;
/** A study that trains. */
export type GridStudy = z.infer<typeof gridSchema>;
export type GradientNormStudy = z.infer<typeof gradientNormSchema>;
export type CompositionStudy = z.infer<typeof compositionSchema>;
/** The pictures by which a run is judged. */
export type Measure = z.infer<typeof measureSchema>;
export type Plot = z.infer<typeof plotSchema>;
