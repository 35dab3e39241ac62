import type { LoadedLora, Lora } from "../../models/lora/mod.ts";
import type { LatentSize, Model } from "../model/mod.ts";
import type { RunPlan } from "../plan/mod.ts";
import type { Scheduler } from "../samplers/mod.ts";
import type { Pretraining } from "./pretraining.ts";

/** A LoRA that a run starts from, and its file. */
export interface StartLora extends Omit<LoadedLora, "adapters"> {
  readonly lora: Lora;
}

/** A model opened for a run. */
export interface OpenedModel {
  readonly model: Model;
  readonly scheduler: Scheduler;
  /** Of the latents: the configuration's, or the U-Net's own size. */
  readonly latents: LatentSize & { readonly channels: number };
  /** Reads the LoRA that the run starts from, where the configuration names one. */
  readonly readStart?: () => Promise<StartLora>;
  /** The pictures that the run is held to, where its configuration names some; read and encoded once. */
  readonly pretraining?: () => Promise<Pretraining>;
  /** What there is to say of the model's files. */
  readonly remarks?: readonly string[];
  /** Estimates what an iteration takes; absent where nothing can. */
  readonly plan?: () => Promise<RunPlan>;
  /** Most bytes that running the model has taken so far: resident ones of its process, or the GPU's. */
  readonly peakMemory?: () => Promise<number | undefined>;
  /** CPU seconds (user and system) that this process and the one that runs the model have used so far. */
  readonly cpuSeconds?: () => Promise<number>;
  /** Ends it, also in the middle of work, whose promises reject then. */
  release(): Promise<void>;
}
