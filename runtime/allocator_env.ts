/**
 * Environment of a process that loads models. Optimizing a graph frees about as much memory as the loaded model keeps,
 * in blocks that glibc would hold on to: those of at least this many bytes go back to the system at once.
 * Other allocators do not read it.
 */
export const ALLOCATOR_ENV: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: String(2 ** 20),
};
