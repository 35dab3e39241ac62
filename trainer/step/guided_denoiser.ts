import { float32 } from "../../autodiff/mod.ts";
import {
  batchOf,
  concatBatch,
  type Float32Tensor,
  type Parameters,
  sliceBatch,
} from "../tensors.ts";
import type { Conditioning, Denoiser, DenoiserRows } from "./networks.ts";

/** Through which branches of classifier-free guidance gradients flow. */
export const GUIDANCE_GRADIENTS = ["both", "conditional", "none"] as const;

export type GuidanceGradient = typeof GUIDANCE_GRADIENTS[number];

/** Classifier-free guidance: o = o_u + scale (o_c - o_u). */
export interface Guidance {
  /** 1: no guidance, and no unconditional branch. */
  readonly scale: number;
  /**
   * "both": the true gradient. "conditional": o_u is a constant. "none": the whole guidance term
   * (scale - 1)(o_c - o_u) is, so the gradient is that of o_c.
   */
  readonly gradient: GuidanceGradient;
}

/** A point of a trajectory and the gradient that arrives at the guided output there. */
export interface Point {
  /** [B, C, H, W]. */
  readonly x: Float32Tensor;
  readonly timestep: number;
  readonly cotangent: Float64Array;
}

interface Branch {
  readonly conditioning: Conditioning;
  /** Factor of its output. */
  readonly weight: number;
  /** Factor of the gradient that goes into it; 0: none goes. */
  readonly gradient: number;
}

/** A denoiser under guidance. Both branches run as one batch, the unconditional one first. */
export class GuidedDenoiser {
  readonly #denoiser: Denoiser;
  readonly #branches: readonly Branch[];

  constructor(
    denoiser: Denoiser,
    { conditional, unconditional, guidance: { scale, gradient } }: {
      readonly conditional: Conditioning;
      readonly unconditional: Conditioning;
      readonly guidance: Guidance;
    },
  ) {
    this.#denoiser = denoiser;
    const weights = {
      both: [1 - scale, scale],
      conditional: [0, scale],
      none: [0, 1],
    } as const satisfies Record<GuidanceGradient, unknown>;
    const [u, c] = weights[gradient];
    this.#branches = scale === 1 ? [{ conditioning: conditional, weight: 1, gradient: 1 }] : [
      { conditioning: unconditional, weight: 1 - scale, gradient: u },
      { conditioning: conditional, weight: scale, gradient: c },
    ];
  }

  /** The guided output, flat, the size of x. */
  async predict(x: Float32Tensor, timestep: number): Promise<Float64Array> {
    const rows = this.#branches.map(({ conditioning }) => rowsOf({ x, timestep, conditioning }));
    const { data } = await this.#denoiser.predict(concatRows(rows));
    const out = new Float64Array(x.data.length);
    this.#branches.forEach(({ weight }, b) => {
      const start = b * out.length;
      for (let i = 0; i < out.length; i++) out[i] = (out[i] ?? 0) + weight * (data[start + i] ?? 0);
    });
    return out;
  }

  /** The vector-Jacobian products of independent points, as one batch; `inputs` per point if asked for. */
  async vjp(
    points: readonly Point[],
    { input }: { readonly input: boolean },
  ): Promise<{ readonly parameters: Parameters; readonly inputs: readonly Float64Array[] }> {
    const branches = this.#branches.filter(({ gradient }) => gradient !== 0);
    if (points.length === 0) return { parameters: {}, inputs: [] };
    const parts = points.flatMap(({ x, timestep, cotangent }) =>
      branches.map(({ conditioning, gradient }) => ({
        rows: rowsOf({ x, timestep, conditioning }),
        cotangent: float32(Float32Array.from(cotangent, (v) => gradient * v), x.shape),
      }))
    );
    const { parameters, x } = await this.#denoiser.vjp(
      concatRows(parts.map((p) => p.rows)),
      concatBatch(parts.map((p) => p.cotangent)),
      { input },
    );
    if (!input) return { parameters, inputs: [] };
    if (x === undefined) throw new TypeError("The denoiser returned no gradient of its input");
    const inputs = points.map((point, p) => {
      const size = batchOf(point.x);
      const sum = new Float64Array(point.cotangent.length);
      branches.forEach((_, b) => {
        const start = (p * branches.length + b) * size;
        const { data } = sliceBatch(x, start, start + size);
        for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + (data[i] ?? 0);
      });
      return sum;
    });
    return { parameters, inputs };
  }
}

function rowsOf(
  { x, timestep, conditioning }: { x: Float32Tensor; timestep: number; conditioning: Conditioning },
): DenoiserRows {
  return { x, timesteps: new Array<number>(batchOf(x)).fill(timestep), conditioning };
}

function concatRows(parts: readonly DenoiserRows[]): DenoiserRows {
  const names = Object.keys(parts[0]?.conditioning ?? {});
  return {
    x: concatBatch(parts.map((p) => p.x)),
    timesteps: parts.flatMap((p) => p.timesteps),
    conditioning: Object.fromEntries(names.map((name) => [
      name,
      concatBatch(parts.map(({ conditioning }) => {
        const tensor = conditioning[name];
        if (tensor === undefined) throw new RangeError(`A branch has no conditioning "${name}"`);
        return tensor;
      })),
    ])),
  };
}
