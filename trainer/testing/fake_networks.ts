import { float32 } from "../../autodiff/mod.ts";
import type { Model } from "../model/mod.ts";
import { parseConfig } from "../parse_config.ts";
import type { OpenedModel } from "../run/mod.ts";
import { schedulerConfigSchema } from "../samplers/mod.ts";
import type { Conditioning, Denoiser, DenoiserRows, Networks } from "../batch/mod.ts";
import { batchOf, type Float32Tensor, type Parameters } from "../tensors.ts";

/** Weights of the colour channels of the fake decoder. */
export const CHANNELS = [1, 0.5, -0.3];

/**
 * A tiny nonlinear model in closed form, computed in float64: per element
 * o = a x + sin(w_0 e x + w_1 t / 1000) with parameters a [1], w [2] and a conditioning "e" [N, 1] that is the
 * prompt's length over 10 (0.5 without prompt), and image channel c = 1/2 + CHANNELS[c] tanh(x).
 */
export class FakeNetworks implements Networks {
  parameters: Parameters = { a: float32([0.3]), w: float32([0.7, -0.4]) };
  /** Rows of every call of the denoiser, for tests of batching. */
  readonly predicted: number[] = [];
  readonly differentiated: number[] = [];

  readonly prompts = {
    encode: (prompts: readonly string[]) =>
      Promise.resolve({
        conditional: { e: float32(prompts.map((p) => p.length / 10), [prompts.length, 1]) },
        unconditional: { e: float32(prompts.map(() => 0.5), [prompts.length, 1]) },
      }),
  };

  readonly denoiser: Denoiser = {
    predict: (rows) => {
      this.predicted.push(batchOf(rows.x) * rows.branches.length);
      const outputs = rows.branches.map((branch) => {
        const out = new Float32Array(rows.x.data.length);
        this.#each(rows, branch, ({ i, a, x, phase }) => out[i] = a * x + Math.sin(phase));
        return float32(out, rows.x.shape);
      });
      return Promise.resolve(outputs);
    },
    vjp: (rows, cotangents, { input }) => {
      this.differentiated.push(batchOf(rows.x) * rows.branches.length);
      const dx = new Float32Array(rows.x.data.length);
      const [da, dw] = [[0], [0, 0]];
      for (const [b, branch] of rows.branches.entries()) {
        this.#each(rows, branch, ({ i, a, x, e, t, w0, phase }) => {
          const c = cotangents[b]?.data[i] ?? 0;
          const slope = c * Math.cos(phase);
          dx[i] = (dx[i] ?? 0) + c * a + slope * w0 * e;
          da[0] = (da[0] ?? 0) + c * x;
          dw[0] = (dw[0] ?? 0) + slope * e * x;
          dw[1] = (dw[1] ?? 0) + slope * t;
        });
      }
      const parameters = { a: float32(da), w: float32(dw) };
      return Promise.resolve(
        input ? { parameters, x: float32(dx, rows.x.shape) } : { parameters },
      );
    },
  };

  readonly decoder = {
    decode: (x: Float32Tensor) => {
      const [n = 1, c = 1, h = 1, w = 1] = x.shape;
      const size = c * h * w;
      const image = new Float32Array(n * 3 * size);
      x.data.forEach((v, i) => {
        const row = Math.floor(i / size);
        CHANNELS.forEach((k, channel) => {
          image[(row * 3 + channel) * size + i % size] = 0.5 + k * Math.tanh(v);
        });
      });
      return Promise.resolve(float32(image, [n, 3, c * h, w]));
    },
    vjp: (x: Float32Tensor, cotangent: Float32Tensor) => {
      const size = x.data.length / batchOf(x);
      const gradient = x.data.map((v, i) => {
        const row = Math.floor(i / size);
        const slope = 1 - Math.tanh(v) ** 2;
        return CHANNELS.reduce(
          (sum, k, channel) =>
            sum + k * slope * (cotangent.data[(row * 3 + channel) * size + i % size] ?? 0),
          0,
        );
      });
      return Promise.resolve(float32(gradient, x.shape));
    },
  };

  #each(
    { x: { data, shape }, timesteps }: DenoiserRows,
    conditioning: Conditioning,
    visit: (
      at: { i: number; a: number; x: number; e: number; t: number; w0: number; phase: number },
    ) => void,
  ): void {
    const a = this.parameters.a?.data[0] ?? 0;
    const [w0 = 0, w1 = 0] = this.parameters.w?.data ?? [];
    const size = data.length / (shape[0] ?? 1);
    data.forEach((x, i) => {
      const row = Math.floor(i / size);
      const t = (timesteps[row] ?? 0) / 1000;
      const e = conditioning.e?.data[row] ?? 0;
      visit({ i, a, x, e, t, w0, phase: w0 * e * x + w1 * t });
    });
  }
}

/** A model around `FakeNetworks` with latents [1, 2, 2]. Its digest is "fake". */
export function fakeModel(): OpenedModel {
  const { prompts, decoder } = new FakeNetworks();
  const model: Model = {
    prompts,
    decoder,
    latentChannels: 1,
    // Half a mean and a small variance for each grey pixel.
    encode: ({ data, shape: [batch = 1, , height = 1, width = 1] }) => {
      const plane = height * width;
      const moments = Array.from({ length: batch }, (_, b) => [
        ...Array.from({ length: plane }, (_, p) => (data[3 * b * plane + p] ?? 0) / 2),
        ...new Array<number>(plane).fill(-4),
      ]).flat();
      return Promise.resolve(float32(moments, [batch, 2, height, width]));
    },
    digest: () => Promise.resolve("fake"),
    initialParameters: () => new FakeNetworks().parameters,
    adapt(parameters, { scale = 1 } = {}) {
      const networks = new FakeNetworks();
      // A scale of 0 is the model as it comes.
      if (scale !== 0) networks.parameters = parameters;
      return Promise.resolve({
        ...networks.denoiser,
        update: (next: Parameters) => {
          networks.parameters = next;
          return Promise.resolve();
        },
        release: () => Promise.resolve(),
      });
    },
    dispose: () => Promise.resolve(),
  };
  return {
    model,
    scheduler: parseConfig(schedulerConfigSchema, { beta_schedule: "scaled_linear" }),
    latents: { channels: 1, height: 2, width: 2 },
    release: () => Promise.resolve(),
  };
}
