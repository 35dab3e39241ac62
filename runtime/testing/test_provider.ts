import process from "node:process";
import { type Provider, PROVIDERS } from "../session.ts";

/**
 * The execution provider that golden cases run on: that of the environment variable DRTUNE_TEST_PROVIDER, "cpu" without.
 * Throws where it names none.
 */
export const TEST_PROVIDER: Provider = providerOf(process.env.DRTUNE_TEST_PROVIDER);

/**
 * How much further from PyTorch than the CPU's a result may be: CUDA's convolutions sum in other orders, and WebGPU grants its
 * shaders' division, exponential and the like several units in the last place.
 */
export const TEST_SLACK = { cpu: 1, cuda: 2, webgpu: 20 }[TEST_PROVIDER];

function providerOf(name = "cpu"): Provider {
  const provider = PROVIDERS.find((p) => p === name);
  if (provider) return provider;
  throw new RangeError(
    `DRTUNE_TEST_PROVIDER is ${JSON.stringify(name)}, expected ${PROVIDERS.join(", ")}`,
  );
}
