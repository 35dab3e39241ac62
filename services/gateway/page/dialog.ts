import { ApiError } from "./api.ts";
import { button, type Child, h, replace } from "./dom.ts";

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
