import { request, runPath } from "../api.ts";
import { faultText, openDialog } from "../dialog.ts";
import { button, h, replace } from "../dom.ts";
import type { Run, Services } from "../types.ts";
import { openDownloadDialog } from "./download_dialog.ts";
import { openEvaluateDialog } from "./evaluate_dialog.ts";
import { openSampleDialog } from "./sample_dialog.ts";
import { isGoing } from "./state_chip.ts";
import { openSwapDialog } from "./swap_dialog.ts";

/** Buttons for what a run's state allows. They stay, so that the focus does. */
export class RunActions {
  readonly element: HTMLElement;
  readonly #stop: HTMLButtonElement;
  readonly #save: HTMLButtonElement;
  readonly #resume: HTMLButtonElement;
  readonly #swap: HTMLButtonElement;
  readonly #delete: HTMLButtonElement;
  readonly #download: HTMLButtonElement;
  readonly #evaluate: HTMLButtonElement;
  readonly #fault = h("p", { class: "fault", role: "alert" });

  constructor(
    id: string,
    { run, services }: {
      readonly run: () => Run | undefined;
      readonly services: () => Services | undefined;
    },
  ) {
    const act = (what: () => Promise<unknown>) => async () => {
      replace(this.#fault);
      try {
        await what();
      } catch (error) {
        replace(this.#fault, faultText(error));
      }
    };
    const open = (dialog: (run: Run) => void) => () => {
      const now = run();
      if (now) dialog(now);
    };
    this.#stop = button("Stop", act(() => request(runPath(id, "/stop"), { method: "POST" })));
    this.#save = button("Save now", act(() => request(runPath(id, "/save"), { method: "POST" })));
    this.#resume = button("Resume", open(openResumeDialog));
    this.#swap = button("Change rewards", open((run) => openSwapDialog(run, services())));
    this.#delete = button("Delete", open(openDeleteDialog));
    this.#download = button("Download LoRA", open(openDownloadDialog));
    this.#evaluate = button("Evaluate", open((run) => openEvaluateDialog(run, services())));
    this.element = h(
      "div",
      { class: "run-actions", hidden: true },
      this.#stop,
      this.#resume,
      this.#save,
      this.#swap,
      button("Draw images", open((run) => openSampleDialog(run, services()))),
      this.#evaluate,
      this.#download,
      h("a", { class: "button", href: `#/compare/${id}` }, "Compare"),
      this.#delete,
      this.#fault,
    );
  }

  update({ state, checkpoints }: Run): void {
    const going = isGoing(state);
    this.#stop.hidden = !going;
    this.#stop.disabled = state === "RUN_STATE_STOPPING";
    this.#save.hidden = this.#swap.hidden = !going;
    this.#save.disabled = state !== "RUN_STATE_RUNNING";
    this.#resume.hidden = going;
    this.#delete.hidden = going;
    this.#download.hidden = this.#evaluate.hidden = checkpoints.length === 0;
  }
}

function openResumeDialog({ id, step, iterations, state }: Run): void {
  const input = h("input", { type: "number", min: step, step: 1, value: iterations });
  const done = state === "RUN_STATE_FINISHED";
  openDialog({
    title: `Resume ${id}`,
    body: [
      h("p", {}, done ? "All steps are done: give it more." : `It continues after step ${step}.`),
      h("label", { class: "field" }, h("span", { class: "field-label" }, "Steps in all"), input),
    ],
    action: "Resume",
    act: async () => {
      await request(runPath(id, "/resume"), { body: { iterations: input.valueAsNumber } });
    },
  });
}

function openDeleteDialog({ id, checkpoints }: Run): void {
  openDialog({
    title: `Delete ${id}?`,
    body: [
      h(
        "p",
        {},
        `Its folder goes, with ${checkpoints.length} checkpoints and all samples. There is no way back.`,
      ),
    ],
    action: "Delete",
    danger: true,
    act: async () => {
      await request(runPath(id), { method: "DELETE" });
      location.hash = "#/runs";
    },
  });
}
