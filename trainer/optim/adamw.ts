import { type Float32Tensor, mapParameters, type Parameters } from "../tensors.ts";

/** AdamW's settings, by PyTorch's meaning. */
export interface AdamWOptions {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled: parameters shrink by learningRate · weightDecay before each step. */
  readonly weightDecay: number;
}

/** First and second moments of the gradient, by parameter, and the number of updates done. */
export interface AdamWState {
  readonly updates: number;
  readonly mean: Parameters;
  readonly square: Parameters;
}

/** The state before the first update. */
export function initAdamW(parameters: Parameters): AdamWState {
  const zeros = () =>
    mapParameters(parameters, (p) => ({ ...p, data: new Float32Array(p.data.length) }));
  return { updates: 0, mean: zeros(), square: zeros() };
}

/**
 * One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) with bias correction. Pure: new parameters and a new
 * state, the old ones are left as they are. Arithmetic is float64, rounded to float32 where it is kept.
 */
export function updateAdamW(
  { parameters, gradients, state }: {
    readonly parameters: Parameters;
    readonly gradients: Parameters;
    readonly state: AdamWState;
  },
  { learningRate, beta1, beta2, epsilon, weightDecay }: AdamWOptions,
): { readonly parameters: Parameters; readonly state: AdamWState } {
  const updates = state.updates + 1;
  const stepSize = learningRate / (1 - beta1 ** updates);
  const correction = Math.sqrt(1 - beta2 ** updates);
  const shrink = 1 - learningRate * weightDecay;
  const next = {
    parameters: copies(parameters),
    mean: copies(state.mean),
    square: copies(state.square),
  };
  for (const [name, parameter] of Object.entries(next.parameters)) {
    const gradient = of(gradients, name).data;
    const [mean, square] = [of(next.mean, name).data, of(next.square, name).data];
    const { data } = parameter;
    for (let i = 0; i < data.length; i++) {
      const g = gradient[i] ?? 0;
      const m = beta1 * (mean[i] ?? 0) + (1 - beta1) * g;
      const v = beta2 * (square[i] ?? 0) + (1 - beta2) * g * g;
      mean[i] = m;
      square[i] = v;
      data[i] = shrink * (data[i] ?? 0) - stepSize * m / (Math.sqrt(v) / correction + epsilon);
    }
  }
  const { mean, square } = next;
  return { parameters: next.parameters, state: { updates, mean, square } };
}

function copies(parameters: Parameters): Parameters {
  return mapParameters(parameters, (p) => ({ ...p, data: p.data.slice() }));
}

function of(parameters: Parameters, name: string): Float32Tensor {
  const found = parameters[name];
  if (found === undefined) throw new RangeError(`Parameter "${name}" has no gradient or state`);
  return found;
}
