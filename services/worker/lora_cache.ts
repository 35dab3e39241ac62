import type { NatsConnection } from "@nats-io/transport-node";
import { decodeSafetensors } from "../../models/weights/mod.ts";
import type { Blob } from "../../proto/mod.ts";
import type { Float32Tensor, Parameters } from "../../trainer/mod.ts";
import { fetchBlob } from "../cluster/mod.ts";

/** LoRAs that are kept: an iteration that begins again has the one before, and drift has its own. */
const KEPT = 3;

/** LoRAs by their digest, those asked for last. */
export class LoraCache {
  readonly #nats: NatsConnection;
  readonly #loras = new Map<string, Parameters>();

  constructor(nats: NatsConnection) {
    this.#nats = nats;
  }

  /** A LoRA's tensors. Throws `BlobError` where it cannot be had. */
  async get(blob: Blob): Promise<Parameters> {
    const parameters = this.#loras.get(blob.sha256) ?? await this.#fetch(blob);
    this.#loras.delete(blob.sha256);
    this.#loras.set(blob.sha256, parameters);
    for (const old of [...this.#loras.keys()].slice(0, -KEPT)) this.#loras.delete(old);
    return parameters;
  }

  async #fetch(blob: Blob): Promise<Parameters> {
    const { tensors } = decodeSafetensors(await fetchBlob(this.#nats, blob), "the LoRA");
    const parameters: Record<string, Float32Tensor> = {};
    for (const [name, tensor] of Object.entries(tensors)) {
      if (tensor.dtype !== "float32") {
        throw new RangeError(`Parameter "${name}" is ${tensor.dtype}, expected float32`);
      }
      parameters[name] = tensor;
    }
    return parameters;
  }
}
