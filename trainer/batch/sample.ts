import { float32 } from "../../autodiff/mod.ts";
import type { Sampler } from "../samplers/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import type { GuidedDenoiser } from "./guided_denoiser.ts";
import type { NoiseSource } from "./noise.ts";

/** Sees every tensor of a batch under its name. Throwing ends the batch. */
export type Probe = (name: string, tensor: Float32Tensor) => void;

/** What sampling leaves. */
export interface Trajectory {
  /** The latent given to the decoder, [B, C, H, W]. */
  readonly x0: Float32Tensor;
  /** The denoiser's latents at the steps that were asked for. */
  readonly inputs: ReadonlyMap<number, Float32Tensor>;
  /** What the denoiser answered there. */
  readonly outputs: ReadonlyMap<number, Float64Array>;
}

/**
 * Runs a sampler. Its recurrence is computed in float64 and rounded to float32 where a network reads it. The probe
 * sees "x.i" and "eps.i" (the guided noise) for every step i; of a flow "v.i" (the guided velocity), and "v_cond" and
 * "v_uncond" at step 0.
 */
export async function sample(
  denoiser: Pick<GuidedDenoiser, "predict">,
  { sampler, noise, keep, probe, signal }: {
    readonly sampler: Sampler;
    readonly noise: NoiseSource;
    /** Indices of the steps whose inputs and outputs are wanted. */
    readonly keep?: ReadonlySet<number>;
    readonly probe?: Probe | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Trajectory> {
  const inputs = new Map<number, Float32Tensor>();
  const outputs = new Map<number, Float64Array>();
  const initial = noise.initial();
  let x = Float64Array.from(initial.data);
  let previous = new Float64Array(x.length);
  const rounded = (values: Float64Array) => float32(Float32Array.from(values), initial.shape);
  for (const [i, { timestep, next, clean, eps }] of sampler.steps.entries()) {
    signal?.throwIfAborted();
    const input = rounded(x);
    if (keep?.has(i)) inputs.set(i, input);
    const output = await denoiser.predict(input, timestep, (branches) => {
      if (i > 0 || !sampler.isFlow || branches.length < 2) return;
      const [unconditional, conditional] = branches;
      if (conditional !== undefined) probe?.("v_cond", conditional);
      if (unconditional !== undefined) probe?.("v_uncond", unconditional);
    });
    if (keep?.has(i)) outputs.set(i, output);
    probe?.(`x.${i}`, input);
    if (sampler.isFlow) probe?.(`v.${i}`, rounded(output));
    else probe?.(`eps.${i}`, rounded(combine([[eps.x, x], [eps.output, output]])));
    const m = combine([[clean.x, x], [clean.output, output]]);
    const terms: [number, ArrayLike<number>][] = [
      [next.x, x],
      [next.output, output],
      [next.previous, previous],
    ];
    if (next.noise !== 0) terms.push([next.noise, noise.step(i)]);
    x = combine(terms);
    previous = m;
  }
  return { x0: rounded(x), inputs, outputs };
}

/** A linear combination of equally long arrays; terms with factor 0 are left out, whatever they hold. */
export function combine(
  terms: readonly (readonly [number, ArrayLike<number>])[],
): Float64Array<ArrayBuffer> {
  const out = new Float64Array(terms[0]?.[1].length ?? 0);
  for (const [factor, values] of terms) {
    if (factor === 0) continue;
    for (let i = 0; i < out.length; i++) out[i] = (out[i] ?? 0) + factor * (values[i] ?? 0);
  }
  return out;
}
