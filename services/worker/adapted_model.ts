import type { Blob } from "../../proto/mod.ts";
import type { AdaptedDenoiser, Model } from "../../trainer/mod.ts";
import type { LoraCache } from "./lora_cache.ts";

/** A model with the LoRA that was asked for last. */
export class AdaptedModel {
  readonly #model: Model;
  readonly #loras: LoraCache;
  #now: { readonly sha256: string; readonly denoiser: AdaptedDenoiser } | undefined;

  constructor(model: Model, loras: LoraCache) {
    this.#model = model;
    this.#loras = loras;
  }

  /** The denoiser with this LoRA, until another is asked for. Throws `BlobError` where it cannot be had. */
  async with(blob: Blob): Promise<AdaptedDenoiser> {
    const { sha256 } = blob;
    if (this.#now?.sha256 === sha256) return this.#now.denoiser;
    const parameters = await this.#loras.get(blob);
    const denoiser = this.#now?.denoiser ?? await this.#model.adapt(parameters);
    if (this.#now !== undefined) await denoiser.update(parameters);
    this.#now = { sha256, denoiser };
    return denoiser;
  }
}
