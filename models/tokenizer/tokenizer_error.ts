import { InputError } from "../../base/mod.ts";

/** Tokenizer files that are missing, damaged or not CLIP's, or text that is too long. The message says which. */
export class TokenizerError extends InputError {
  override readonly name = "TokenizerError";
}
