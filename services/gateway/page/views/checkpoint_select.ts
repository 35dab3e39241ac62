import { h } from "../dom.ts";
import type { Run } from "../types.ts";

/** A choice among the checkpoints of a run, the newest first, and unless told otherwise the model as it was (0). */
export function checkpointSelect(
  { checkpoints }: Pick<Run, "checkpoints">,
  { label, withoutLora = true }: { readonly label?: string; readonly withoutLora?: boolean } = {},
): HTMLSelectElement {
  return h(
    "select",
    { ...(label !== undefined && { "aria-label": label }) },
    ...checkpoints.toReversed().map((step) => h("option", { value: step }, `Checkpoint ${step}`)),
    withoutLora && h("option", { value: 0 }, "Without LoRA"),
  );
}
