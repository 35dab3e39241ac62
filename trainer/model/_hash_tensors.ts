import type { Hash } from "node:crypto";
import type { Tensor } from "../../autodiff/mod.ts";

/** Adds names, dtypes, shapes and data of tensors to a hash, in the order of their names. */
export function hashTensors(hash: Hash, tensors: Readonly<Record<string, Tensor>>): Hash {
  for (const name of Object.keys(tensors).sort()) {
    const tensor = tensors[name];
    if (tensor === undefined) continue;
    const { dtype, shape, data } = tensor;
    hash.update(`\n${name} ${dtype} ${shape}\n`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash;
}
