import type { AdaptedDenoiser, Model } from "../model/mod.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { RunConfig } from "./run_config.ts";

/** What drift is measured from: the frozen model, or the LoRA of an earlier step. Nothing where drift is not penalised. */
export class DriftReference {
  readonly #model: Model;
  readonly #isWanted: boolean;
  #denoiser: AdaptedDenoiser | undefined;

  constructor(model: Model, { drift }: Pick<RunConfig, "drift">) {
    this.#model = model;
    this.#isWanted = drift.weight > 0;
  }

  get denoiser(): AdaptedDenoiser | undefined {
    return this.#denoiser;
  }

  /** Takes what a checkpoint says. */
  async become({ reference, parameters }: Checkpoint): Promise<void> {
    if (!this.#isWanted) return;
    const before = this.#denoiser;
    this.#denoiser = reference === undefined
      ? await this.#model.adapt(parameters, { scale: 0 })
      : await this.#model.adapt(reference);
    await before?.release();
  }

  /** Frees it. */
  async release(): Promise<void> {
    await this.#denoiser?.release().catch(() => {});
  }
}
