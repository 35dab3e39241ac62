export {
  type AdaptableLayer,
  ATTENTION_TARGETS,
  initialLora,
  type LayerAlias,
  type LoraConfig,
  loraModules,
  type LoraShape,
  loraShapes,
  type LoraTensors,
} from "./adapter.ts";
export { adaptedConv2d, adaptedLinear, type AdaptedWeights } from "./adapted_layers.ts";
export { ChangeInputs } from "./change_inputs.ts";
export {
  denoiserOf,
  type DenoiserPart,
  diffusersHeader,
  type Lora,
  type LoraFile,
  type PeftFolder,
  toDiffusersLora,
  toKohyaLora,
  toPeftLora,
} from "./export_lora.ts";
export { KEY_FORMS, type KeyForm, type KeyPart, REFUSED_KEYS } from "./key_forms.ts";
export { type LoadedLora, loadLora } from "./load_lora.ts";
export { LoraError } from "./lora_error.ts";
export { LORA_PARTS, type LoraPart, type LoraPartName } from "./lora_parts.ts";
export { type Adapters, type LoraSource, readAdapters } from "./read_adapter.ts";
export { trainableLora } from "./trainable_lora.ts";
export {
  type Adapter,
  changeShapes,
  type Delta,
  loraChanges,
  type ModuleChange,
  scaledTensors,
} from "./weight_change.ts";
