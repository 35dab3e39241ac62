import type { Tensor } from "../autodiff/mod.ts";
import type { Place } from "./session.ts";

/** Tensors an engine owns, by place. What is replaced or forgotten is freed at once, not when garbage is collected. */
export class KeptTensors {
  readonly #tensors = new Map<Place, Tensor>();

  get(place: Place): Tensor | undefined {
    return this.#tensors.get(place);
  }

  /** Takes the tensor over: nobody else may hold its memory. */
  set(place: Place, tensor: Tensor): void {
    this.delete(place);
    this.#tensors.set(place, tensor);
  }

  delete(place: Place): void {
    const buffer = this.#tensors.get(place)?.data.buffer;
    this.#tensors.delete(place);
    if (buffer instanceof ArrayBuffer) buffer.transfer(0);
  }

  clear(): void {
    for (const place of [...this.#tensors.keys()]) this.delete(place);
  }
}
