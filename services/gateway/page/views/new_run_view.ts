import { ApiError, json, request } from "../api.ts";
import { faultText, textFault } from "../dialog.ts";
import { button, field, h, replace } from "../dom.ts";
import type { Preset, RunConfig } from "../types.ts";
import type { View, ViewContext } from "./view.ts";

/** The time somebody stops typing before a configuration is checked. */
const CHECK_MS = 350;

/** Starts a run from a preset or a configuration of one's own. */
export function newRunView({ signal }: ViewContext): View {
  const id = h("input", {
    type: "text",
    value: `run-${new Date().toISOString().slice(0, 16).replaceAll(/[-:]/g, "").replace("T", "-")}`,
    pattern: "[a-z0-9][a-z0-9._\\-]{0,63}",
    spellcheck: "false",
    autocomplete: "off",
  });
  const editor = h("textarea", {
    class: "editor",
    rows: 20,
    spellcheck: "false",
    autocapitalize: "off",
    "aria-describedby": "check",
    oninput: () => checkSoon(),
  });
  const verdict = h("p", { id: "check", role: "status", class: "sub" });
  const presets = h(
    "div",
    { class: "presets", role: "group", "aria-label": "Presets" },
    h("p", { class: "empty" }, "Loading…"),
  );
  let timer: ReturnType<typeof setTimeout> | undefined;
  signal.addEventListener("abort", () => clearTimeout(timer));

  const check = async (): Promise<RunConfig | undefined> => {
    const text = editor.value;
    try {
      const config = await json<RunConfig>("/v1/configs/check", {
        body: text,
        type: "application/yaml",
        signal,
      });
      if (editor.value === text) say("sub", "The configuration can be read.");
      return config;
    } catch (error) {
      if (signal.aborted || editor.value !== text) return undefined;
      say("fault", textFault(error));
      if (error instanceof ApiError && error.line !== undefined) mark(editor, error.line);
      return undefined;
    }
  };
  const say = (kind: string, text: string) => {
    verdict.className = kind;
    replace(verdict, text);
  };
  const checkSoon = () => {
    editor.removeAttribute("data-line");
    clearTimeout(timer);
    timer = setTimeout(check, CHECK_MS);
  };
  const start = async () => {
    clearTimeout(timer);
    const config = await check();
    if (config === undefined) return;
    try {
      await request("/v1/runs", { body: { runId: id.value, config: withoutEmpty(config) } });
      location.hash = `#/runs/${id.value}`;
    } catch (error) {
      say("fault", faultText(error));
      const wrongName = error instanceof ApiError && error.field === "runId";
      id.ariaInvalid = String(wrongName);
      if (wrongName) id.focus();
    }
  };

  json<{ presets: Preset[] }>("/v1/presets", { signal }).then(({ presets: known }) => {
    const choose = (preset: Preset, chosen: HTMLButtonElement) => {
      for (const other of presets.children) {
        other.setAttribute("aria-pressed", String(other === chosen));
      }
      editor.value = preset.yaml;
      checkSoon();
    };
    const buttons = known.map((preset) => {
      const element: HTMLButtonElement = h(
        "button",
        {
          type: "button",
          class: "preset",
          "aria-pressed": "false",
          onclick: () => choose(preset, element),
        },
        h("b", {}, preset.name),
        // Its first sentence; the rest stands in the configuration.
        h("span", { class: "sub" }, preset.description.split(/(?<=\.) /)[0]),
      );
      return element;
    });
    replace(presets, ...buttons);
    const [first] = known;
    const [button] = buttons;
    if (first && button && editor.value === "") choose(first, button);
  }, (error) => {
    if (!signal.aborted) replace(presets, h("p", { class: "fault" }, faultText(error)));
  });

  return {
    title: "Start a run",
    content: [
      h("a", { class: "back", href: "#/runs" }, "All runs"),
      h("div", { class: "page-head" }, h("h1", {}, "Start a run")),
      h(
        "div",
        { class: "new-run" },
        h("div", {}, h("h2", {}, "Presets"), presets),
        h(
          "div",
          {},
          field(
            "Name",
            id,
            "1 to 64 of a-z, 0-9, “.”, “_”, “-”. The same name with the same configuration is the same run.",
          ),
          field("Configuration", editor),
          verdict,
          h("div", { class: "actions" }, button("Start", start, { class: "primary" })),
        ),
      ),
    ],
  };
}

/** Selects a line of the text. */
function mark(editor: HTMLTextAreaElement, line: number): void {
  editor.dataset["line"] = String(line);
  if (document.activeElement === editor) return;
  const lines = editor.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  editor.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
}

/** What was not said is not sent, so that it takes its default. */
function withoutEmpty(config: RunConfig): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(config).filter(([, value]) =>
      value !== "" && !(Array.isArray(value) && value.length === 0)
    ),
  );
}
