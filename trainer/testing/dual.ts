import { float32 } from "../../autodiff/mod.ts";
import type { Guidance } from "../batch/mod.ts";
import { CHANNELS, FakeNetworks } from "./fake_networks.ts";

/** A number and its derivative with respect to one parameter. */
export interface Dual {
  readonly v: number;
  readonly d: number;
}

export const dual = (v: number, d = 0): Dual => ({ v, d });
export const add = (...xs: Dual[]): Dual =>
  xs.reduce((a, b) => ({ v: a.v + b.v, d: a.d + b.d }), dual(0));
export const mul = (a: Dual | number, b: Dual): Dual =>
  typeof a === "number" ? { v: a * b.v, d: a * b.d } : { v: a.v * b.v, d: a.d * b.v + a.v * b.d };
export const sin = (a: Dual): Dual => ({ v: Math.sin(a.v), d: Math.cos(a.v) * a.d });
export const tanh = (a: Dual): Dual => ({
  v: Math.tanh(a.v),
  d: (1 - Math.tanh(a.v) ** 2) * a.d,
});
export const detach = (a: Dual): Dual => dual(a.v);

/** The parameters of a fake model, that at `index` with derivative 1. */
export function dualParameters(
  { parameters: { a, w } }: FakeNetworks = new FakeNetworks(),
  index = -1,
): Dual[] {
  return [...(a?.data ?? []), ...(w?.data ?? [])].map((v, i) => dual(v, i === index ? 1 : 0));
}

/** The fake denoiser's guided output at one element. */
export function dualOutput(
  parameters: readonly Dual[],
  { x, prompt, timestep, guidance }: {
    readonly x: Dual;
    readonly prompt: string;
    readonly timestep: number;
    readonly guidance: Guidance;
  },
): Dual {
  const [a = dual(NaN), w0 = dual(NaN), w1 = dual(NaN)] = parameters;
  const branch = (e: number) =>
    add(mul(a, x), sin(add(mul(e, mul(w0, x)), mul(timestep / 1000, w1))));
  const c = branch(Math.fround(prompt.length / 10));
  if (guidance.scale === 1) return c;
  const u = branch(0.5);
  const w = guidance.scale;
  if (guidance.gradient === "both") return add(u, mul(w, add(c, mul(-1, u))));
  if (guidance.gradient === "conditional") return add(mul(1 - w, detach(u)), mul(w, c));
  return add(c, mul(w - 1, detach(add(c, mul(-1, u)))));
}

const weight = (i: number) => Math.sin(i);

/** loss = sum over the image of (weight p + p^2 / 10). */
export const quadraticReward = {
  evaluate: (image: ReturnType<typeof float32>) =>
    Promise.resolve({
      loss: image.data.reduce((sum, p, i) => sum + weight(i) * p + p * p / 10, 0),
      gradient: float32(image.data.map((p, i) => weight(i) + p / 5), image.shape),
      rewards: {},
    }),
};

/** What the element `i` of latents [N, 1, 2, 2] adds to that loss. */
export function dualLoss(x0: Dual, i: number): Dual {
  const image = Math.floor(i / 4);
  return CHANNELS.reduce((sum, k, channel) => {
    const p = add(dual(0.5), mul(k, tanh(x0)));
    return add(sum, mul(weight((image * 3 + channel) * 4 + i % 4), p), mul(0.1, mul(p, p)));
  }, dual(0));
}
