export {
  type AddedToken,
  ClipTokenizer,
  type ClipVocabulary,
  type EncodeOptions,
  type Encoding,
  MAX_TEXT_LENGTH,
  type TokenLayout,
} from "./clip_tokenizer.ts";
export { loadClipTokenizer, type TokenizerPlace } from "./load_clip_tokenizer.ts";
export { loadTextTokenizer, type TextTokenizer } from "./text_tokenizer.ts";
export { TokenizerError } from "./tokenizer_error.ts";
