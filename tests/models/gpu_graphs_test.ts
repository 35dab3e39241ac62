import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { type GraphProto, ModelProtoSchema } from "onnx-buf";
import { Builder, gradient, type Shape, type Value } from "../../autodiff/mod.ts";
import { compile, type Target } from "../../compile/mod.ts";
import { clipVisionPooled, parseClipVisionConfig } from "../../models/clip/mod.ts";
import { parseVaeConfig, vaeDecode } from "../../models/diffusers/mod.ts";
import { WeightScope } from "../../models/mod.ts";

const GIB = 2 ** 30;

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

  protected override stored(name: string, shape: Shape, as: Shape = shape): Value {
    const path = this.path(name);
    return this.b.weight(path, { dtype: "float32", shape: as }, { file: path, offset: 0 });
  }
}

/** How often each operator stands in a model, graphs inside nodes included. */
function operators(bytes: Uint8Array): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  const visit = (graph: GraphProto | undefined) => {
    for (const { opType, attribute } of graph?.node ?? []) {
      counts.set(opType, (counts.get(opType) ?? 0) + 1);
      for (const { g } of attribute) visit(g);
    }
  };
  visit(fromBinary(ModelProtoSchema, bytes).graph);
  return counts;
}

/** Score and gradient of OpenCLIP's ViT-H-14, as rewards are written: the gradient stands in a branch. */
function vitH(batch: number, target: Target): ReadonlyMap<string, number> {
  const b = new Builder({ differentiable: true });
  const pixels = b.input("pixels", { dtype: "float32", shape: [batch, 3, 224, 224] });
  const config = parseClipVisionConfig({
    hidden_size: 1280,
    intermediate_size: 5120,
    num_hidden_layers: 32,
    num_attention_heads: 16,
    image_size: 224,
    patch_size: 14,
    hidden_act: "gelu",
  }, "config.json");
  const score = b.sum(clipVisionPooled(new AnyWeights(b), pixels, config), {
    axes: [1],
    keepDims: false,
  });
  const [slope] = b.either(b.input("wanted", { dtype: "bool", shape: [] }), {
    yes: (into) =>
      gradient(b, [{ value: score, cotangent: into.fill(1, score) }], [pixels], { into }),
    no: (into) => [into.expand(into.scalar(0, "float32"), pixels.shape)],
  });
  assert.ok(slope);
  return operators(compile(b, { score, slope }, target).bytes);
}

/** The gradient of Stable Diffusion's decoder at 512x512. */
function decoder(batch: number, target: Target): ReadonlyMap<string, number> {
  const b = new Builder({ differentiable: true });
  const latents = b.input("latents", { dtype: "float32", shape: [batch, 4, 64, 64] });
  const config = parseVaeConfig({
    _class_name: "AutoencoderKL",
    act_fn: "silu",
    block_out_channels: [128, 256, 512, 512],
    down_block_types: Array(4).fill("DownEncoderBlock2D"),
    up_block_types: Array(4).fill("UpDecoderBlock2D"),
    in_channels: 3,
    out_channels: 3,
    latent_channels: 4,
    layers_per_block: 2,
    norm_num_groups: 32,
    sample_size: 512,
    scaling_factor: 0.18215,
  }, "config.json");
  const image = vaeDecode(new AnyWeights(b), latents, config);
  const [slope] = gradient(b, [{ value: image, cotangent: b.input("cotangent", image) }], [
    latents,
  ]);
  assert.ok(slope);
  return operators(compile(b, { image, slope }, target).bytes);
}

const cuda = (memory: number): Target => ({ provider: "cuda", memory, precision: "float32" });
const cpu: Target = { provider: "cpu", memory: Infinity, precision: "float32" };

for (
  const [name, write, blocks] of [["ViT-H", vitH, 2 * 32], ["VAE's decoder", decoder, 1]] as const
) {
  Deno.test(`${name} for CUDA holds no Scan where memory allows`, () => {
    const [batch, enough] = write === vitH ? [8, 8 * GIB] : [1, 24 * GIB];
    const whole = write(batch, cuda(enough));
    assert.equal(whole.get("Scan") ?? 0, 0);
    // A GPU's runtime brings convolutions of its own: none is of rows alone, as Winograd's are.
    assert.equal(whole.get("Softmax"), write === vitH ? 32 : 1);
    // Each attention and its gradient in blocks: a Scan of heads, and in it one of queries.
    assert.ok((write(batch, cuda(GIB / 8)).get("Scan") ?? 0) >= blocks);
    assert.ok((write(batch, cpu).get("Scan") ?? 0) >= blocks);
  });
}
