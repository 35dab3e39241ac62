import type { LatentsSize, Part, VaeConfig } from "../../models/diffusers/mod.ts";
import type { Decoder } from "../batch/mod.ts";
import { batchOf, concatBatch, type Float32Tensor, sliceBatch } from "../tensors.ts";
import { asFloat32 } from "./_as_float32.ts";
import { chunks } from "./_chunks.ts";
import type { NetworkRunner } from "./network_runner.ts";
import { decoderNetwork, type NetworkTarget, type RunnableNetwork } from "./runnable_network.ts";

/** A VAE's decoder. Work beyond the limits, latent positions at once, runs in parts. */
export class ImageDecoder implements Decoder {
  readonly #part: Part<VaeConfig>;
  readonly #runner: NetworkRunner;
  readonly #target: NetworkTarget;
  readonly #limits: { readonly decode: number; readonly decodeProducts: number };
  readonly #networks = new Map<string, RunnableNetwork>();

  constructor(
    part: Part<VaeConfig>,
    { runner, target, limits }: {
      readonly runner: NetworkRunner;
      readonly target: NetworkTarget;
      readonly limits: { readonly decode: number; readonly decodeProducts: number };
    },
  ) {
    this.#part = part;
    this.#runner = runner;
    this.#target = target;
    this.#limits = limits;
  }

  decode(latents: Float32Tensor): Promise<Float32Tensor> {
    return this.#run(latents);
  }

  vjp(latents: Float32Tensor, cotangent: Float32Tensor): Promise<Float32Tensor> {
    return this.#run(latents, cotangent);
  }

  async #run(latents: Float32Tensor, cotangent?: Float32Tensor): Promise<Float32Tensor> {
    const out: Float32Tensor[] = [];
    const [, , height = 1, width = 1] = latents.shape;
    const what = cotangent === undefined ? "decode" : "decodeProducts";
    const patch = this.#part.config.patches?.size ?? 1;
    const limit = this.#limits[what] / (height * width * patch ** 2);
    for (const [start, end] of chunks(batchOf(latents), limit)) {
      const size = { batch: end - start, height, width };
      const feeds = { latents: sliceBatch(latents, start, end) };
      if (cotangent === undefined) {
        const image = await this.#runner.forward(this.#network("image", size), feeds);
        out.push(asFloat32("image", image));
      } else {
        const network = this.#network("product", size);
        const part = sliceBatch(cotangent, start, end);
        const gradients = await this.#runner.vjp(network, { feeds, cotangent: part });
        out.push(asFloat32("gradient of latents", gradients.latents));
      }
    }
    return concatBatch(out);
  }

  #network(task: "image" | "product", size: LatentsSize): RunnableNetwork {
    const key = `${task} ${Object.values(size)}`;
    const network = this.#networks.get(key) ??
      decoderNetwork(this.#part, { task, size, ...this.#target });
    this.#networks.set(key, network);
    return network;
  }
}
