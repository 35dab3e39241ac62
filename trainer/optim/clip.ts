import { mapParameters, type Parameters } from "../tensors.ts";

/** L2 norm of all gradients together. */
export function globalNorm(gradients: Parameters): number {
  let sum = 0;
  for (const { data } of Object.values(gradients)) for (const g of data) sum += g * g;
  return Math.sqrt(sum);
}

/** Gradients times `factor`. */
export function scaled(gradients: Parameters, factor: number): Parameters {
  return factor === 1
    ? gradients
    : mapParameters(gradients, (g) => ({ ...g, data: times(g.data, factor) }));
}

/** A loop: a function for each number takes ten times as long, of which a trainer of many workers does little else. */
function times(values: Float32Array, factor: number): Float32Array<ArrayBuffer> {
  const product = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) product[i] = (values[i] ?? 0) * factor;
  return product;
}

/** What to scale gradients by so that their global norm is at most `maxNorm`, as PyTorch does; 0 means no limit. */
export function clipFactor(norm: number, maxNorm: number): number {
  return maxNorm === 0 ? 1 : Math.min(1, maxNorm / (norm + 1e-6));
}
