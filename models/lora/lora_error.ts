import { InputError } from "../../base/mod.ts";

/** A LoRA file that does not fit the model, or is none. The message names the file and the tensor. */
export class LoraError extends InputError {
  override readonly name = "LoraError";

  constructor(
    /** The file at fault. */
    readonly path: string,
    /** What was found and what was expected, without a full stop. */
    detail: string,
    options?: ErrorOptions,
  ) {
    super(`LoRA file ${path}: ${detail}`, options);
  }
}
