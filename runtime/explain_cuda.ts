import type { ProviderStatus } from "./available_providers.ts";
import { cudaDriverVersion } from "./cuda_driver.ts";

/** CUDA 13.0, which the libraries are of. */
const NEEDED = 13_000;

/** Why provider "cuda" does not work, in a sentence, and who can mend it. */
export interface CudaFault {
  readonly what: string;
  /** "setup": `drtune gpu setup`; "driver": whoever installs NVIDIA's driver; "nothing": this machine cannot. */
  readonly mend: "setup" | "driver" | "nothing";
}

/** Reads what the runtime and the system's loader said when provider "cuda" was tried. */
export function explainCuda(
  { reason = "", details }: Pick<ProviderStatus, "reason" | "details">,
  { os, arch, driver }: {
    readonly os: string;
    readonly arch: string;
    /** As `cudaDriverVersion` answers. */
    readonly driver: number | undefined;
  } = { ...Deno.build, driver: cudaDriverVersion() },
): CudaFault {
  if (os !== "linux" || arch !== "x86_64") {
    const what = `ONNX Runtime has CUDA for Linux on x86_64, and this is ${os} on ${arch}`;
    return { what, mend: "nothing" };
  }
  if (driver === undefined) {
    return { what: "NVIDIA's driver is not installed: libcuda.so.1 is not there", mend: "driver" };
  }
  if (driver < NEEDED) {
    const known = `${Math.floor(driver / 1000)}.${Math.floor(driver % 1000 / 10)}`;
    const what =
      `NVIDIA's driver knows CUDA ${known}, expected 13.0, which drivers from 580 on know`;
    return { what, mend: "driver" };
  }
  const said = [reason, ...details].join("\n");
  const missing = /(\blib[\w.-]+\.so[\w.]*): cannot open shared object file/.exec(said)?.[1];
  if (missing !== undefined) return { what: `${missing} is not to be found`, mend: "setup" };
  if (/no CUDA-capable device/.test(said)) {
    return { what: "NVIDIA's driver sees no GPU", mend: "nothing" };
  }
  const failure = /CUDA failure \d+: [^;\n]+[^;\s]/.exec(said)?.[0];
  return failure === undefined
    ? { what: reason, mend: "setup" }
    : { what: failure, mend: "nothing" };
}
