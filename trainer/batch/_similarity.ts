import { float32 } from "../../autodiff/mod.ts";
import { batchOf } from "../tensors.ts";
import { combine, type Probe, type Trajectory } from "./sample.ts";
import type { Prediction, StraightThrough } from "./straight_through.ts";

/** The steps whose latents and outputs a straight-through method reads. */
export function stepsOf({ second, bridge }: StraightThrough): number[] {
  if (bridge === undefined) return [...second.keys()];
  const read = [bridge.predictions?.xj, bridge.predictions?.z].flatMap((prediction) =>
    prediction ? [...prediction.x.keys(), ...prediction.outputs.keys()] : []
  );
  return [...second.keys(), ...bridge.first.keys(), bridge.step, ...read];
}

/**
 * What each image's loss is multiplied by: 1 / (max(d_j, tau) + max(d_0, tau)), with d the mean absolute difference
 * between a prediction and what was sampled; undefined without tau. The probe sees predictions, distances and factors.
 */
export function similarity(
  { x0, inputs, outputs }: Trajectory,
  { straight: { bridge }, probe }: {
    readonly straight: StraightThrough;
    readonly probe?: Probe | undefined;
  },
): readonly number[] | undefined {
  const xj = bridge && inputs.get(bridge.step);
  if (bridge === undefined || xj === undefined) return undefined;
  const rows = batchOf(x0);
  const size = x0.data.length / rows;
  const predicted = ({ x, outputs: weights }: Prediction) =>
    combine([
      ...[...x].map(([i, w]) => [w, inputs.get(i)?.data ?? []] as const),
      ...[...weights].map(([i, w]) => [w, outputs.get(i) ?? []] as const),
    ]);
  const { predictions, tau } = bridge;
  // Without leaps both are sums of the sampler's own steps: what was sampled.
  const [atJ, at0] = predictions
    ? [predicted(predictions.xj), predicted(predictions.z)]
    : [xj.data, x0.data];
  probe?.("xhat_j", float32(Float32Array.from(atJ), x0.shape));
  probe?.("xhat_0", float32(Float32Array.from(at0), x0.shape));
  if (tau === undefined) return undefined;
  const distances = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from({ length: rows }, (_, row) => {
      let sum = 0;
      for (let i = row * size; i < (row + 1) * size; i++) {
        sum += Math.abs((a[i] ?? 0) - (b[i] ?? 0));
      }
      return sum / size;
    });
  const [dj, d0] = [distances(atJ, xj.data), distances(at0, x0.data)];
  const factors = dj.map((d, i) => 1 / (Math.max(d, tau) + Math.max(d0[i] ?? 0, tau)));
  probe?.("d_j", float32(dj));
  probe?.("d_0", float32(d0));
  probe?.("w_sim", float32(factors));
  return factors;
}
