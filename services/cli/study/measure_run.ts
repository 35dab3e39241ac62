import type { SampleRequest, TrainerService } from "../../../proto/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";
import type { Judges } from "../judge/judges.ts";

/** A picture that was drawn and judged. */
export interface MeasuredPicture {
  readonly prompt: string;
  readonly seed: number;
  /** By the reward's name, in its own units. */
  readonly scores: Readonly<Record<string, number>>;
}

/** Pictures as they were judged, and the files of the first of each prompt. */
export interface MeasuredRun {
  readonly pictures: readonly MeasuredPicture[];
  /** A PNG file's bytes, by the picture's prompt. */
  readonly shown: ReadonlyMap<string, Uint8Array>;
}

/** Draws pictures with a run's newest LoRA, or without one, and judges them as files. */
export async function measureRun(
  trainer: GrpcClient<typeof TrainerService>,
  { runId, step, prompts, seed, imagesPerPrompt, judges, signal }: {
    readonly runId: string;
    /** 0 for the model without LoRA; absent for the newest checkpoint. */
    readonly step?: number;
    readonly prompts: readonly string[];
    readonly seed: number;
    readonly imagesPerPrompt: number;
    readonly judges: Judges;
    readonly signal: AbortSignal;
  },
): Promise<MeasuredRun> {
  const request: Pick<SampleRequest, "runId" | "prompts" | "seed" | "imagesPerPrompt"> = {
    ...{ runId, prompts: [...prompts], seed, imagesPerPrompt },
  };
  const drawn: { prompt: string; seed: number; image: Uint8Array }[] = [];
  const shown = new Map<string, Uint8Array>();
  const at = step === undefined ? {} : { step };
  for await (const { prompt, seed, png } of trainer.sample({ ...request, ...at }, { signal })) {
    drawn.push({ prompt, seed, image: png });
    if (!shown.has(prompt)) shown.set(prompt, png);
  }
  const scores = await judges.score(drawn, signal);
  const pictures = drawn.map(({ prompt, seed }, i) => ({
    ...{ prompt, seed },
    scores: Object.fromEntries(
      Object.entries(scores).map(([name, values]) => [name, values[i] ?? NaN]),
    ),
  }));
  return { pictures, shown };
}
