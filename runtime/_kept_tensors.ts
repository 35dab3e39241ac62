import type { Tensor } from "../autodiff/mod.ts";

/** Tensors an engine owns, by name. What is replaced or forgotten is freed at once, not when garbage is collected. */
export class KeptTensors {
  readonly #tensors = new Map<string, Tensor>();

  get(name: string): Tensor | undefined {
    return this.#tensors.get(name);
  }

  /** Takes the tensor over: nobody else may hold its memory. */
  set(name: string, tensor: Tensor): void {
    this.delete(name);
    this.#tensors.set(name, tensor);
  }

  delete(name: string): void {
    const buffer = this.#tensors.get(name)?.data.buffer;
    this.#tensors.delete(name);
    if (buffer instanceof ArrayBuffer) buffer.transfer(0);
  }

  clear(): void {
    for (const name of [...this.#tensors.keys()]) this.delete(name);
  }
}
