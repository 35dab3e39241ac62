/**
 * The newest CUDA that NVIDIA's driver of this machine knows, as 1000 times the major and 10 times the minor version
 * (13000: CUDA 13.0); `undefined` where there is no driver.
 */
export function cudaDriverVersion(): number | undefined {
  let driver;
  try {
    driver = Deno.dlopen("libcuda.so.1", {
      cuDriverGetVersion: { parameters: ["buffer"], result: "i32" },
    });
  } catch {
    return undefined;
  }
  try {
    const version = new Int32Array(1);
    return driver.symbols.cuDriverGetVersion(version) === 0 ? version[0] : undefined;
  } finally {
    driver.close();
  }
}
