import { request, runPath } from "../api.ts";
import { openDialog } from "../dialog.ts";
import { field, h } from "../dom.ts";
import { saveFile } from "../save_file.ts";
import type { Run } from "../types.ts";
import { checkpointSelect } from "./checkpoint_select.ts";

const FORMATS = [
  ["LORA_FORMAT_DIFFUSERS", "diffusers (load_lora_weights)"],
  ["LORA_FORMAT_KOHYA", "kohya (ComfyUI, AUTOMATIC1111 and others)"],
  ["LORA_FORMAT_PEFT", "PEFT (adapter_model.safetensors)"],
] as const;

const PRECISIONS = [
  ["LORA_PRECISION_FLOAT32", "float32, as trained"],
  ["LORA_PRECISION_FLOAT16", "float16, half the size"],
] as const;

/** Lets somebody download a checkpoint's LoRA in a format. */
export function openDownloadDialog(run: Run): void {
  const step = checkpointSelect(run, { withoutLora: false });
  const format = select(FORMATS);
  const precision = select(PRECISIONS);
  openDialog({
    title: `Download the LoRA of ${run.id}`,
    body: [field("Checkpoint", step), field("Format", format), field("Numbers", precision)],
    action: "Download",
    act: async () => {
      const query = new URLSearchParams({
        step: step.value,
        format: format.value,
        precision: precision.value,
      });
      // Fetched with the token, then handed over as a file.
      const response = await request(runPath(run.id, `/lora?${query}`));
      const disposition = response.headers.get("content-disposition") ?? "";
      const name = /filename="([^"]+)"/.exec(disposition)?.[1] ?? "lora.safetensors";
      const kind = format.value.replace("LORA_FORMAT_", "").toLowerCase();
      saveFile(await response.blob(), `${run.id}-${step.value}-${kind}-${name}`);
    },
  });
}

function select(options: readonly (readonly [value: string, label: string])[]): HTMLSelectElement {
  return h("select", {}, ...options.map(([value, label]) => h("option", { value }, label)));
}
