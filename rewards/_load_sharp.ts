/**
 * The image library, loaded when first needed: it reads the environment and loads native code, for which a process that
 * only scores tensors needs no permission.
 */
export async function loadSharp() {
  const { default: sharp } = await import("sharp");
  // Each file is read once: a cache would only hold memory.
  sharp.cache(false);
  return sharp;
}
