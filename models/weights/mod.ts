export { cachedAsSafetensors, type CachedOptions } from "./cached_as_safetensors.ts";
export {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  toFloat32,
} from "./half.ts";
export { chooseWeightFile, openWeights, type OpenWeightsOptions } from "./open_weights.ts";
export { decodeSafetensors, encodeSafetensors } from "./safetensors_bytes.ts";
export { openSafetensors, SafetensorsFile, type SafetensorsOptions } from "./safetensors_file.ts";
export type { SafetensorsEntry, TensorLayout } from "./_safetensors_header.ts";
export { openTorchFile, readTorchFile, TorchFile, type TorchFileOptions } from "./torch_file.ts";
export { unzipMembers } from "./unzip_members.ts";
export { type WeightAlias, type WeightLocation, WeightSource } from "./weight_source.ts";
export { WeightsError } from "./weights_error.ts";
export {
  copyToSafetensors,
  writeHollowSafetensors,
  writeSafetensors,
} from "./write_safetensors.ts";
