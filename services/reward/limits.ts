/** What one request may hold. Checked before anything of that size is allocated. */
export interface Limits {
  /** Images, over all tensors and files of a request. */
  readonly maxImages: number;
  /** Pixels (height times width), over all images of a request. Bounds memory: 12 bytes each, and more in the model. */
  readonly maxPixels: number;
  /** Largest height or width. */
  readonly maxSide: number;
  /** UTF-16 code units of a prompt. */
  readonly maxPromptLength: number;
  /** Bytes of a message, either way. */
  readonly maxMessageBytes: number;
}

/** 16 megapixels in up to 64 images, 64 MiB a message. */
export const DEFAULT_LIMITS: Limits = {
  maxImages: 64,
  maxPixels: 2 ** 24,
  maxSide: 8192,
  maxPromptLength: 10_000,
  maxMessageBytes: 64 * 2 ** 20,
};
