import { createHash } from "node:crypto";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import { loraParts, readPipeline, unetModules } from "../../../../models/diffusers/mod.ts";
import { loadLora, trainableLora } from "../../../../models/lora/mod.ts";
import { loadReward, parseRewardConfig } from "../../../../rewards/mod.ts";
import { openEngine } from "../../../../runtime/mod.ts";
import { makeSampler, parseSchedulerConfig, PipelineModel } from "../../../../trainer/mod.ts";
import { UsageError } from "../../command.ts";
import { Progress } from "../../progress.ts";
import { readPrompts } from "../read_prompts.ts";
import type { StudyFolder } from "../study_folder.ts";
import type { GradientNormStudy } from "../study_schema.ts";
import { type MeasuredLora, measureNorms } from "./measure_norms.ts";

/** Norms of one LoRA at one seed, for K = 1..T. */
const normsSchema = z.object({
  lora: z.string(),
  seed: z.int(),
  /** Whether the gradient stops at the denoiser's input. */
  stops: z.boolean(),
  norms: z.array(z.number()),
});

export type MeasuredNorms = z.infer<typeof normsSchema>;

/** Measures every LoRA at every seed, through x and with the stop-gradient; what is there is not repeated. */
export async function runGradientNorm(
  study: GradientNormStudy,
  { folder, models, path, signal }: {
    readonly folder: StudyFolder;
    /** Folder of models and prompts. */
    readonly models: string;
    /** The study's file. */
    readonly path: string;
    readonly signal: AbortSignal;
  },
): Promise<readonly MeasuredNorms[]> {
  const pipeline = await readPipeline(join(models, study.model));
  const [height, width] = pipeline.unet.config.sampleSize ?? [];
  if (height === undefined || width === undefined) {
    throw new UsageError(`${study.model} does not say the size of its latents`);
  }
  const prompts = await readPrompts(join(models, study.prompts));
  const sampler = makeSampler(study.sampler, parseSchedulerConfig(pipeline.scheduler));
  const engine = await openEngine({ isolation: "child", name: study.model });
  const progress = new Progress();
  const found: MeasuredNorms[] = [];
  try {
    const reward = await loadReward(parseRewardConfig(study.reward), { engine, baseDir: models });
    const loras = new Map<string, MeasuredLora>();
    const fresh = new PipelineModel(pipeline, engine, {
      lora: { rank: study.rank, alpha: study.rank },
    });
    loras.set("new LoRA", { model: fresh, parameters: fresh.initialParameters(0) });
    if (study.lora !== undefined) {
      const file = resolve(dirname(path), study.lora);
      const { adapters, path: read } = await loadLora(file, loraParts(pipeline));
      const lora = trainableLora(adapters, { layers: unetModules(pipeline.unet), path: read });
      loras.set("trained LoRA", {
        model: new PipelineModel(pipeline, engine, { lora }),
        parameters: lora.tensors,
      });
    }
    const { title: _, question: __, seeds: ___, ...decides } = study;
    const key = createHash("sha256").update(JSON.stringify(decides)).digest("hex").slice(0, 8);
    const total = loras.size * study.seeds.length * 2;
    for (const [name, lora] of loras) {
      for (const [i, seed] of study.seeds.entries()) {
        for (const stops of [false, true]) {
          signal.throwIfAborted();
          const file = `results/${name.replace(" ", "-")}-${
            stops ? "stop" : "through"
          }-s${seed}-${key}.json`;
          let norms = await folder.readJson(file, normsSchema);
          if (norms === undefined) {
            const prompt = prompts[i % prompts.length] ?? "";
            const order = { reward, sampler, guidance: study.guidance, size: { height, width } };
            norms = {
              ...{ lora: name, seed, stops },
              norms: [
                ...await measureNorms(lora, { ...order, prompt, seed, inputStopGradient: stops }),
              ],
            };
            await folder.writeFile(file, `${JSON.stringify(norms)}\n`);
          }
          found.push(norms);
          progress.update({ done: found.length, total, note: `${name}, seed ${seed}` });
        }
      }
    }
    await reward.dispose();
    return found;
  } finally {
    progress.end();
    await engine.close();
  }
}
