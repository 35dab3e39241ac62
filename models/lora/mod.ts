export {
  type AdaptableLayer,
  ATTENTION_TARGETS,
  initialLora,
  type LoraConfig,
  type LoraShape,
  loraShapes,
  type LoraTensors,
} from "./adapter.ts";
export { LoraError } from "./lora_error.ts";
export { type LoadedLora, loadLora } from "./load_lora.ts";
export {
  diffusersHeader,
  fromLoraFile,
  type Lora,
  type LoraFile,
  toDiffusersLora,
  toKohyaLora,
} from "./lora_file.ts";
export { LoraInputs, type LoraPair } from "./lora_inputs.ts";
export { loraLinear } from "./lora_linear.ts";
