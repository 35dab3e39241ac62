/** What exporters, trainers and hubs write beside a model's fields, by how the names begin. */
const PREFIXES = [
  ...["export", "transformers.js", "onnx", "optimum", "openvino", "neuron", "coreml", "tflite"],
  ...["gradient_checkpointing", "train", "finetun", "fine_tun", "unsloth", "adapter", "wandb"],
  ...["output_", "use_cache", "xla_device", "is_composition", "num_labels", "model_max_length"],
  ...["name_or_path", "auto_map", "attn_implementation", "low_cpu_mem_usage", "keys_to_ignore"],
  ...["license", "language", "library_name", "pipeline_tag", "tags", "base_model", "author"],
  ...["max_new_tokens", "cache_implementation", "custom_pipelines", "device_map"],
];

/** The fields that say what a model computes: all but those that its exporter, trainer or hub noted down. */
export function withoutBookkeeping(
  fields: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(([name]) => !PREFIXES.some((p) => name.startsWith(p))),
  );
}
