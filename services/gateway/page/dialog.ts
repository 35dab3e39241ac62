import { ApiError } from "./api.ts";
import { button, type Child, h, replace, say } from "./dom.ts";

/** Shows a dialog until it is closed; `act` closes it when it succeeds and shows what is wrong when it does not. */
export function openDialog(
  { title, body, action, act, danger = false }: {
    readonly title: string;
    readonly body: readonly Child[];
    /** Label of the button that acts. */
    readonly action: string;
    readonly act: () => Promise<void>;
    readonly danger?: boolean;
  },
): void {
  const fault = h("p", { class: "fault", role: "alert" });
  const dialog = h("dialog", { "aria-label": title, class: "dialog" });
  const submit = async () => {
    replace(fault);
    try {
      await act();
      dialog.close();
    } catch (error) {
      replace(fault, faultText(error));
    }
  };
  const acting = button(action, submit, { class: danger ? "danger" : "primary" });
  replace(
    dialog,
    h("h2", {}, title),
    ...body,
    fault,
    h(
      "div",
      { class: "actions" },
      button("Cancel", () => dialog.close()),
      acting,
    ),
  );
  dialog.addEventListener("keydown", (event) => {
    // As in a form.
    if (event.key === "Enter" && event.target instanceof HTMLInputElement) acting.click();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/**
 * Shows a dialog in which something can be done again and again. `leaving` is aborted when it is closed; the signal that
 * `work` gets then too, and when it is begun anew. `status`, which is among what is `below`, says what went wrong.
 */
export function openWorkDialog(
  { title, body, action, work, leaving, status, below }: {
    readonly title: string;
    readonly body: readonly Child[];
    /** Label of the button that begins. */
    readonly action: string;
    readonly work: (signal: AbortSignal) => Promise<void>;
    readonly leaving: AbortController;
    readonly status: HTMLElement;
    readonly below: readonly Child[];
  },
): void {
  let working: AbortController | undefined;
  const begin = async () => {
    working?.abort();
    working = new AbortController();
    const signal = AbortSignal.any([working.signal, leaving.signal]);
    status.className = "sub";
    try {
      await work(signal);
    } catch (error) {
      if (signal.aborted) return;
      status.className = "fault";
      say(status, faultText(error));
    }
  };
  const dialog: HTMLDialogElement = h(
    "dialog",
    { class: "dialog wide", "aria-label": title },
    h("h2", {}, title),
    ...body,
    h(
      "div",
      { class: "actions" },
      button("Close", () => dialog.close()),
      button(action, begin, { class: "primary" }),
    ),
    ...below,
  );
  dialog.addEventListener("close", () => {
    leaving.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** What is wrong with a text that somebody wrote, and on which line. */
export function textFault(error: unknown): string {
  const text = faultText(error);
  // Where it cannot be read at all the message says so itself.
  const told = !(error instanceof ApiError) || error.line === undefined || text.startsWith("Line ");
  return told ? text : `Line ${error.line}: ${text}`;
}

/** What went wrong, for people. */
export function faultText(error: unknown): string {
  if (error instanceof TypeError) return "The server cannot be reached.";
  return error instanceof Error ? error.message : String(error);
}
