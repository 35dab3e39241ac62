import { float32 } from "../../autodiff/mod.ts";
import { closedForm, type Sampler, type SamplerStep } from "../samplers/mod.ts";
import { accumulate, type Float32Tensor, type Parameters } from "../tensors.ts";
import type { GuidedDenoiser, Point } from "./guided_denoiser.ts";
import { combine, type Probe } from "./sample.ts";
import type { StraightThrough } from "./straight_through.ts";

/** What a gradient's way back starts from. */
export interface Backward {
  readonly sampler: Sampler;
  /** Indices of the trained steps. */
  readonly trained: readonly number[];
  readonly inputs: ReadonlyMap<number, Float32Tensor>;
  /** d loss / d x0. */
  readonly gradient: Float32Tensor;
  /** Of the penalties at the outputs of trained steps. */
  readonly penalties: ReadonlyMap<number, Float64Array>;
}

/** Detached inputs: every trained step's product is known before any network runs backwards. One batch. */
export async function scaledProducts(
  denoiser: GuidedDenoiser,
  { sampler, trained, inputs, gradient, penalties }: Backward,
): Promise<Parameters> {
  const kappa = closedForm(sampler);
  const points = trained.map((i): Point => ({
    ...pointAt(i, { sampler, inputs }),
    cotangent: combine([[kappa[i] ?? 0, gradient.data], [1, penalties.get(i) ?? []]]),
  }));
  return (await denoiser.vjp(points, { input: false })).parameters;
}

/** The recurrence of `closedForm` with vectors: what arrives at x_i also comes through the denoiser. */
export async function fullAdjoint(
  denoiser: GuidedDenoiser,
  { sampler, trained, inputs, gradient, penalties }: Backward,
): Promise<Parameters> {
  const sum: Record<string, Float32Tensor> = {};
  const first = Math.min(...trained);
  let u1 = Float64Array.from(gradient.data);
  let [u2, previous] = [u1, 0];
  for (let i = sampler.steps.length - 1; i >= first; i--) {
    const step = sampler.steps[i];
    if (step === undefined) break;
    const { next, clean } = step;
    const arriving = (key: "x" | "output") =>
      combine([[next[key], u1], [clean[key] * previous, u2]]);
    let u = arriving("x");
    if (trained.includes(i)) {
      const at = pointAt(i, { sampler, inputs });
      const penalty = penalties.get(i);
      // The penalty's own product: it goes to the parameters, not on to x_i.
      const points = [arriving("output"), ...(penalty ? [penalty] : [])].map((cotangent) => ({
        ...at,
        cotangent,
      }));
      const { parameters, inputs: [through] } = await denoiser.vjp(points, { input: i > first });
      accumulate(sum, parameters);
      if (through !== undefined) u = combine([[1, u], [1, through]]);
    }
    [u1, u2, previous] = [u, u1, next.previous];
  }
  return sum;
}

/** Where a trained step stood. */
export function pointAt(
  i: number,
  { sampler, inputs }: Pick<Backward, "sampler" | "inputs">,
): { x: Float32Tensor; timestep: number; step: SamplerStep } {
  const [x, step] = [inputs.get(i), sampler.steps[i]];
  if (x === undefined || step === undefined) throw new RangeError(`Step ${i} was not kept`);
  return { x, timestep: step.timestep, step };
}

/**
 * The products of a straight-through method: one through the network at x_j, whose gradient the first part adds to its
 * own, then all others as one batch. The probe sees "jtg", J^T g at x_j.
 */
export async function straightThroughProducts(
  denoiser: GuidedDenoiser,
  { sampler, trained, inputs, gradient, penalties, straight: { second, bridge }, probe }:
    & Backward
    & {
      readonly straight: StraightThrough;
      readonly probe?: Probe | undefined;
    },
): Promise<Parameters> {
  const sum: Record<string, Float32Tensor> = {};
  const g = gradient.data;
  const points: Point[] = [];
  const add = (i: number, cotangent: Float64Array) =>
    points.push({ ...pointAt(i, { sampler, inputs }), cotangent });
  let arriving: ArrayLike<number> = g;
  const nested = bridge && second.get(bridge.step);
  if (bridge !== undefined) {
    let through: Float64Array | undefined;
    const isNested = bridge.first.size > 0 && bridge.alpha !== 0;
    if (isNested && nested !== undefined && nested !== 0) {
      const at = pointAt(bridge.step, { sampler, inputs });
      const { parameters, inputs: [found] } = await denoiser.vjp(
        [{ ...at, cotangent: combine([[nested, g]]) }],
        { input: true },
      );
      accumulate(sum, parameters);
      through = found;
      if (found !== undefined) {
        probe?.("jtg", float32(Float32Array.from(found, (v) => v / nested), gradient.shape));
      }
    }
    arriving = combine([[bridge.identity, g], [
      bridge.alpha,
      through ?? new Float64Array(g.length),
    ]]);
    for (const [i, w] of bridge.first) add(i, combine([[w, arriving]]));
    if (through === undefined && nested !== undefined) add(bridge.step, combine([[nested, g]]));
  }
  for (const [i, w] of second) if (i !== bridge?.step) add(i, combine([[w, g]]));
  for (const i of trained) {
    const penalty = penalties.get(i);
    if (penalty !== undefined) add(i, penalty);
  }
  accumulate(sum, (await denoiser.vjp(points, { input: false })).parameters);
  return sum;
}
