import { float32 } from "../../autodiff/mod.ts";
import {
  batchOf,
  concatBatch,
  type Float32Tensor,
  mapParameters,
  type Parameters,
  sliceBatch,
} from "../tensors.ts";
import type { Conditioning, Denoiser, DenoiserRows, GuidanceKind } from "./networks.ts";

/** Through which branches of classifier-free guidance gradients flow. */
export const GUIDANCE_GRADIENTS = ["both", "conditional", "none"] as const;

export type GuidanceGradient = typeof GUIDANCE_GRADIENTS[number];

/** Guidance of a denoiser, of its own kind; see `GuidanceKind`. */
export interface Guidance {
  /** Classifier-free, 1: no guidance, and no unconditional branch. */
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

/** A denoiser under guidance. Both branches run as one batch. */
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
    const w = classifierFreeScale(denoiser.guidance, scale);
    const weights = {
      both: [1 - w, w],
      conditional: [0, w],
      none: [0, 1],
    } as const satisfies Record<GuidanceGradient, unknown>;
    const [u, c] = weights[gradient];
    this.#branches = w === 1 ? [{ conditioning: conditional, weight: 1, gradient: 1 }] : [
      { conditioning: unconditional, weight: 1 - w, gradient: u },
      { conditioning: conditional, weight: w, gradient: c },
    ];
  }

  /** The guided output, flat, the size of x. `onBranches` sees what each branch says, the conditional one last. */
  async predict(
    x: Float32Tensor,
    timestep: number,
    onBranches: (outputs: readonly Float32Tensor[]) => void = () => {},
  ): Promise<Float64Array> {
    const outputs = await this.#denoiser.predict(rowsOf([{ x, timestep }], this.#branches));
    onBranches(outputs);
    const guided = new Float64Array(x.data.length);
    for (const [b, { weight }] of this.#branches.entries()) {
      const output = outputs[b]?.data;
      for (let i = 0; i < guided.length; i++) {
        guided[i] = (guided[i] ?? 0) + weight * (output?.[i] ?? NaN);
      }
    }
    return guided;
  }

  /** The vector-Jacobian products of independent points, as one batch; `inputs` per point if asked for. */
  async vjp(
    points: readonly Point[],
    { input }: { readonly input: boolean },
  ): Promise<{ readonly parameters: Parameters; readonly inputs: readonly Float64Array[] }> {
    if (points.length === 0) return { parameters: {}, inputs: [] };
    const branches = this.#branches.filter(({ gradient }) => gradient !== 0);
    const cotangents = branches.map(({ gradient }) =>
      concatBatch(
        points.map(({ x, cotangent }) =>
          float32(Float32Array.from(cotangent, (v) => gradient * v), x.shape)
        ),
      )
    );
    const { parameters, x } = await this.#denoiser.vjp(
      rowsOf(points, branches),
      cotangents,
      { input },
    );
    if (!input) return { parameters, inputs: [] };
    if (x === undefined) throw new TypeError("The denoiser returned no gradient of its input");
    let start = 0;
    const inputs = points.map((point) => {
      const end = start + batchOf(point.x);
      const part = Float64Array.from(sliceBatch(x, start, end).data);
      start = end;
      return part;
    });
    return { parameters, inputs };
  }
}

/** The scale of o_u + w (o_c - o_u); 1 where there is one branch. */
function classifierFreeScale(kind: GuidanceKind = "classifier-free", scale: number): number {
  switch (kind) {
    case "classifier-free":
      return scale;
    case "excess":
      return scale + 1;
    case "embedded":
    case "none":
      return 1;
  }
}

function rowsOf(
  points: readonly Pick<Point, "x" | "timestep">[],
  branches: readonly Branch[],
): DenoiserRows {
  return {
    x: concatBatch(points.map(({ x }) => x)),
    timesteps: points.flatMap(({ x, timestep }) => new Array<number>(batchOf(x)).fill(timestep)),
    branches: branches.map(({ conditioning }) =>
      mapParameters(conditioning, (tensor) => concatBatch(points.map(() => tensor)))
    ),
  };
}
