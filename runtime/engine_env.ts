/**
 * Environment of a process that may compute on an NVIDIA GPU: its libraries would otherwise round the operands of float32
 * products to the 10 bits of TF32, which puts gradients 1e-3 off. Read when the first CUDA session is made.
 */
export const EXACT_ENV: Readonly<Record<string, string>> = { NVIDIA_TF32_OVERRIDE: "0" };

/**
 * Environment of a process that loads models. Optimizing a graph frees about as much memory as the loaded model keeps,
 * in blocks that glibc would hold on to: those of at least this many bytes go back to the system at once.
 * Other allocators do not read it.
 */
export const ENGINE_ENV: Readonly<Record<string, string>> = {
  ...EXACT_ENV,
  MALLOC_MMAP_THRESHOLD_: String(2 ** 20),
};
