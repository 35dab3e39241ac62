/**
 * Whether an error, or what caused it, is that the process or the system has too many files open. That passes: whoever
 * holds them closes them, or is made to.
 */
export function isOutOfFiles(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    // Deno's own errors and those of ONNX Runtime have no code.
    if (/\bE[MN]FILE\b|too many open files/i.test(at.message)) return true;
  }
  return false;
}
