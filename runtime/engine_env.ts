/**
 * Environment of a process that may compute on an NVIDIA GPU, read when its first CUDA session is made. The libraries
 * would otherwise round the operands of float32 products to the 10 bits of TF32, which puts gradients 1e-3 off, and
 * count GPUs in another order than the driver's tools.
 */
export const CUDA_ENV: Readonly<Record<string, string>> = {
  NVIDIA_TF32_OVERRIDE: "0",
  CUDA_DEVICE_ORDER: "PCI_BUS_ID",
};

/**
 * Environment of a process that loads models. Optimizing a graph frees about as much memory as the loaded model keeps,
 * in blocks that glibc would hold on to: those of at least this many bytes go back to the system at once.
 * Other allocators do not read it.
 */
export const ENGINE_ENV: Readonly<Record<string, string>> = {
  ...CUDA_ENV,
  MALLOC_MMAP_THRESHOLD_: String(2 ** 20),
};
