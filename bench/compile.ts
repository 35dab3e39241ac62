/**
 * What it takes to make a model's graphs, without any weights:
 *
 *     deno run -A bench/compile.ts [ROUNDS]
 *
 * Stable Diffusion 1.5's U-Net at 512x512, batch 1, forward and with the gradient by its input: seconds to write, to
 * differentiate, to count what it takes, and to write it as ONNX. The fastest of ROUNDS (default 3) counts.
 */
import { Builder, gradient, type Shape, type Value } from "../autodiff/mod.ts";
import { compile, CPU_TARGET } from "../compile/mod.ts";
import { parseUNetConfig, unet } from "../models/diffusers/mod.ts";
import { WeightScope } from "../models/mod.ts";

const CONFIG = parseUNetConfig({
  _class_name: "UNet2DConditionModel",
  act_fn: "silu",
  attention_head_dim: 8,
  block_out_channels: [320, 640, 1280, 1280],
  center_input_sample: false,
  cross_attention_dim: 768,
  down_block_types: [...Array(3).fill("CrossAttnDownBlock2D"), "DownBlock2D"],
  downsample_padding: 1,
  flip_sin_to_cos: true,
  freq_shift: 0,
  in_channels: 4,
  layers_per_block: 2,
  mid_block_scale_factor: 1,
  norm_eps: 1e-5,
  norm_num_groups: 32,
  out_channels: 4,
  sample_size: 64,
  up_block_types: ["UpBlock2D", ...Array(3).fill("CrossAttnUpBlock2D")],
}, "unet/config.json");

/** A state dict that has whatever is asked for. Its weights are never read. */
class AnyWeights extends WeightScope {
  constructor(b: Builder, prefix = "") {
    const unread = (name: string) => {
      throw new RangeError(`Weight "${name}" is read`);
    };
    super(b, { has: () => true, get: unread }, { prefix });
  }

  override at(name: string): WeightScope {
    return new AnyWeights(this.b, this.path(name));
  }

  override rows(name: string, shape: Shape, rows: { start: number; end: number }): Value {
    return this.b.slice(this.get(name, shape), { axis: 0, ...rows });
  }

  protected override stored(name: string, shape: Shape, as: Shape = shape): Value {
    const path = this.path(name);
    return this.b.weight(path, { dtype: "float32", shape: as }, { file: path, offset: 0 });
  }
}

/** Seconds of each part of making a graph. */
type Timings = Record<"write" | "differentiate" | "count" | "serialize", number>;

function make(isGradient: boolean): { readonly timings: Timings; readonly operators: number } {
  const timings: Timings = { write: 0, differentiate: 0, count: 0, serialize: 0 };
  const timed = <T>(part: keyof Timings, action: () => T): T => {
    const begun = performance.now();
    const made = action();
    timings[part] = (performance.now() - begun) / 1000;
    return made;
  };
  const b = new Builder({ differentiable: isGradient });
  const float = (...shape: number[]) => ({ dtype: "float32" as const, shape });
  const { sample, prediction } = timed("write", () => {
    const inputs = {
      sample: b.input("sample", float(1, 4, 64, 64)),
      timestep: b.input("timestep", float(1)),
      encoder_hidden_states: b.input("encoder_hidden_states", float(1, 77, 768)),
    };
    return { ...inputs, prediction: unet(new AnyWeights(b), inputs, { config: CONFIG }) };
  });
  const outputs: Record<string, Value> = { prediction };
  if (isGradient) {
    timed("differentiate", () => {
      const cotangent = b.input("cotangent", prediction);
      const [slope] = gradient(b, [{ value: prediction, cotangent }], [sample]);
      if (slope !== undefined) outputs["grad.sample"] = slope;
    });
  }
  const compiled = compile(b, outputs, { ...CPU_TARGET, fold: false });
  const { operators } = timed("count", () => compiled.cost);
  timed("serialize", () => compiled.bytes);
  return { timings, operators };
}

const rounds = Number(Deno.args[0] ?? 3);
for (const isGradient of [false, true]) {
  const all = Array.from({ length: rounds }, () => make(isGradient));
  const total = ({ timings }: { readonly timings: Timings }) =>
    Object.values(timings).reduce((sum, seconds) => sum + seconds);
  const best = all.toSorted((a, b) => total(a) - total(b))[0];
  if (best === undefined) throw new RangeError("ROUNDS must be 1 or more");
  const parts = Object.entries(best.timings).map(([part, s]) => `${part} ${s.toFixed(3)}`);
  console.log(
    `${isGradient ? "gradient" : "forward"}: ${total(best).toFixed(3)} s ` +
      `(${parts.join(", ")}; ${best.operators} operators)`,
  );
}
