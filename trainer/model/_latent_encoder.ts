import { CPU_TARGET, type Target } from "../../compile/mod.ts";
import { encodeGraph, type Part, type VaeConfig, vaeFactor } from "../../models/diffusers/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { asFloat32 } from "./_as_float32.ts";
import type { NetworkRunner } from "./network_runner.ts";

/** `Model.encode` of a VAE. It runs in one graph, in float32 always. */
export async function encodeImages(
  vae: Part<VaeConfig>,
  image: Float32Tensor,
  { runner, target }: { readonly runner: NetworkRunner; readonly target: Target },
): Promise<Float32Tensor> {
  const factor = vaeFactor(vae.config);
  const [batch = 1, , height = 1, width = 1] = image.shape;
  const size = { batch, height: height / factor, width: width / factor };
  const build = () =>
    encodeGraph(vae, { ...size, target: { ...CPU_TARGET, ...target, precision: "float32" } });
  return await runner.use(`VAE encoder ${Object.values(size)}`, build, async (session) => {
    const { moments } = await session.run({ image }, ["moments"]);
    return asFloat32("moments", moments);
  });
}
