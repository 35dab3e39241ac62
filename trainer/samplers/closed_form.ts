import type { Sampler } from "./sampler.ts";

/**
 * kappa_i = d x0 / d o_i with every denoiser input detached: a number per step, known before any network runs.
 *
 * The adjoint of the sampler's recurrence: u_i = d x0 / d x_i, and v_i = d x0 / d m_i by way of step i + 1.
 */
export function closedForm({ steps }: Sampler): number[] {
  const kappa: number[] = [];
  let [u1, u2, previous] = [1, 0, 0];
  for (const { next, clean } of steps.toReversed()) {
    const v = previous * u2;
    kappa.push(next.output * u1 + clean.output * v);
    [u1, u2, previous] = [next.x * u1 + clean.x * v, u1, next.previous];
  }
  return kappa.reverse();
}
