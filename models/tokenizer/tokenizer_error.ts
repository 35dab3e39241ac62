/** Tokenizer files that are missing, damaged or not CLIP's, or text that is too long. The message says which. */
export class TokenizerError extends Error {
  override readonly name = "TokenizerError";
}
