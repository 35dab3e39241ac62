import { faultText } from "../dialog.ts";
import { button, field, h, replace } from "../dom.ts";
import { linesOf } from "../lines.ts";
import { imageUrl, sampledImages } from "../sampled_images.ts";
import type { Run } from "../types.ts";

/** Lets somebody draw images with a checkpoint of a run. */
export function openSampleDialog(run: Run): void {
  const leaving = new AbortController();
  let drawing: AbortController | undefined;
  const prompts = h("textarea", {
    rows: 3,
    placeholder: "One prompt a line; none: the held-out prompts",
  });
  const step = checkpointSelect(run);
  const seed = h("input", { type: "number", min: 0, max: 2 ** 32 - 1, value: 0 });
  const each = h("input", { type: "number", min: 1, max: 64, value: 1 });
  const gallery = h("div", { class: "samples" });
  const status = h("p", { class: "sub", role: "status" });
  const draw = async () => {
    drawing?.abort();
    drawing = new AbortController();
    const signal = AbortSignal.any([drawing.signal, leaving.signal]);
    replace(gallery);
    replace(status, "Drawing…");
    status.className = "sub";
    let count = 0;
    try {
      const order = {
        runId: run.id,
        step: Number(step.value),
        prompts: linesOf(prompts.value),
        seed: seed.valueAsNumber,
        imagesPerPrompt: each.valueAsNumber,
      };
      for await (const image of sampledImages(order, signal)) {
        count++;
        gallery.append(
          h(
            "figure",
            { class: "sample" },
            h(
              "div",
              { class: "frame" },
              h("img", { src: imageUrl(image, leaving.signal), alt: image.prompt }),
            ),
            h(
              "figcaption",
              {},
              h("span", { class: "prompt" }, image.prompt),
              h("span", { class: "seed" }, `seed ${image.seed}`),
            ),
          ),
        );
        replace(status, `${count} drawn…`);
      }
      replace(status, count === 1 ? "1 image" : `${count} images`);
    } catch (error) {
      if (signal.aborted) return;
      status.className = "fault";
      replace(status, faultText(error));
    }
  };
  const dialog: HTMLDialogElement = h(
    "dialog",
    { class: "dialog wide", "aria-label": `Draw images with ${run.id}` },
    h("h2", {}, `Draw images with ${run.id}`),
    field("Prompts", prompts),
    h(
      "div",
      { class: "row" },
      field("Weights", step),
      field("First seed", seed),
      field("Images per prompt", each),
    ),
    h(
      "div",
      { class: "actions" },
      button("Close", () => dialog.close()),
      button("Draw", draw, { class: "primary" }),
    ),
    status,
    gallery,
  );
  dialog.addEventListener("close", () => {
    leaving.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** A choice among the checkpoints of a run and the model as it was. */
export function checkpointSelect({ checkpoints }: Run, label = ""): HTMLSelectElement {
  return h(
    "select",
    { ...(label !== "" && { "aria-label": label }) },
    ...checkpoints.toReversed().map((step) => h("option", { value: step }, `Checkpoint ${step}`)),
    h("option", { value: 0 }, "Without LoRA"),
  );
}
