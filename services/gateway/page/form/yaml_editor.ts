import { button, h, replace, say } from "../dom.ts";
import type { ConfigDraft } from "./config_draft.ts";

/** The configuration's text with numbers of lines; the one that is wrong is marked, and what is wrong said at it. */
export class YamlEditor {
  readonly element: HTMLElement;
  readonly #draft: ConfigDraft;
  readonly #text: HTMLTextAreaElement;
  readonly #gutter = h("ol", { class: "gutter", "aria-hidden": "true" });
  readonly #verdict = h("p", { id: "check", role: "status", class: "sub" });

  constructor(draft: ConfigDraft) {
    this.#draft = draft;
    this.#text = h("textarea", {
      class: "editor",
      rows: 20,
      spellcheck: "false",
      autocapitalize: "off",
      "aria-label": "Configuration",
      "aria-describedby": "check",
      oninput: () => {
        draft.write(this.#text.value);
        this.#number();
      },
      onscroll: () => this.#gutter.scrollTop = this.#text.scrollTop,
    });
    this.element = h(
      "div",
      { class: "yaml" },
      h("div", { class: "numbered" }, this.#gutter, this.#text),
      this.#verdict,
    );
  }

  /** Shows the draft as it is now. */
  update(): void {
    const { text, fault, away } = this.#draft;
    if (this.#text.value !== text) this.#text.value = text;
    this.#number();
    this.#text.ariaInvalid = String(fault !== undefined);
    if (away !== undefined) {
      this.#verdict.className = "fault";
      return say(this.#verdict, `${away} Your changes are kept, and tried again.`);
    }
    if (fault === undefined) {
      this.#verdict.className = "sub";
      return say(this.#verdict, "The configuration can be read.");
    }
    this.#verdict.className = "fault";
    const { line, message } = fault;
    replace(
      this.#verdict,
      message,
      line !== undefined && " ",
      line !== undefined &&
        button(`Go to line ${line}`, () => this.#goTo(line), { class: "small" }),
    );
  }

  #number(): void {
    const count = this.#text.value.split("\n").length;
    const wrong = this.#draft.fault?.line;
    const { fault } = this.#draft;
    const shown = JSON.stringify([count, fault]);
    if (this.#gutter.dataset["shown"] === shown) return;
    this.#gutter.dataset["shown"] = shown;
    replace(
      this.#gutter,
      ...Array.from({ length: count }, (_, i) =>
        h(
          "li",
          { ...(i + 1 === wrong && { class: "wrong", title: fault?.message }) },
          String(i + 1),
        )),
    );
  }

  /** Selects a line. */
  #goTo(line: number): void {
    const lines = this.#text.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    this.#text.focus();
    this.#text.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  }
}
