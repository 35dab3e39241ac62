import type { Sampler } from "./sampler.ts";

/**
 * kappa_i = d x0 / d o_i with every denoiser input detached: a number per step, known before any network runs. x0 is
 * what the decoder gets: the last latents, or the one-step prediction at index `stop` where sampling ends early.
 * Steps after the stop have 0. The stop's own kappa applies if that step is trained.
 *
 * The adjoint of the sampler's recurrence: u_i = d x0 / d x_i, v_i = d x0 / d m_i by way of step i + 1.
 */
export function closedForm({ steps }: Sampler, stop: number = steps.length): number[] {
  const kappa = new Array<number>(steps.length).fill(0);
  const end = steps[stop];
  let [u1, u2] = [1, 0];
  if (end !== undefined) {
    kappa[stop] = end.clean.output;
    u1 = end.clean.x;
  }
  let previous = 0;
  for (let i = stop - 1; i >= 0; i--) {
    const step = steps[i];
    if (step === undefined) break;
    const { next, clean } = step;
    const v = previous * u2;
    kappa[i] = next.output * u1 + clean.output * v;
    [u1, u2] = [next.x * u1 + clean.x * v, u1];
    previous = next.previous;
  }
  return kappa;
}
