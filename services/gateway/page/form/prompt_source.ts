import { button, h, replace, say } from "../dom.ts";
import { linesOf } from "../lines.ts";
import { type FieldPath, valueAt } from "./config_draft.ts";
import { help } from "./bound_field.ts";
import type { FormContext, FormPart } from "./form_context.ts";
import type { FormField } from "./form_field.ts";

const FOLLOW_MS = 400;
/** Longer lists make a YAML text that nobody reads, and that the gateway refuses from 64 KiB on. */
const MOST_CHARACTERS = 40_000;

let lastId = 0;

/** Prompts: typed, of a file that is uploaded into the list, or of a file that the trainer has. */
export function promptSource(
  { field, path }: { readonly field: FormField; readonly path: FieldPath },
  context: FormContext,
): FormPart {
  const { draft, trainer } = context;
  const id = `prompts-${++lastId}`;
  const optional = path.at(-1) !== "prompts";
  const kinds = [
    ...(optional ? [["none", "As the default says"] as const] : []),
    ["list", "Typed or uploaded"] as const,
    ["file", "A file of the trainer’s"] as const,
  ];
  const radios = new Map(kinds.map(([kind]) => [
    kind,
    h("input", { type: "radio", name: id, value: kind, onchange: () => choose(kind) }),
  ]));
  const typed = h("textarea", {
    rows: 5,
    "aria-label": `${field.label}, one a line`,
    placeholder: "One prompt a line",
  });
  const file = h("select", {
    "aria-label": `File of ${field.label.toLowerCase()}`,
    onchange: () => draft.change([{ path, value: { file: file.value } }]),
  });
  const upload = h("input", {
    type: "file",
    accept: ".txt,text/plain",
    hidden: true,
    onchange: () => void take(),
  });
  const count = h("p", { class: "sub", role: "status" });
  const fault = h("p", { class: "fault" });
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** What is wrong with what was typed or uploaded, and so is in no configuration. */
  let own = "";
  const refuse = (text: string) => say(fault, own = text);
  typed.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      await writeList(linesOf(typed.value));
      timer = undefined;
    }, FOLLOW_MS);
  });
  const writeList = async (prompts: readonly string[]) => {
    const length = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
    if (length > MOST_CHARACTERS) {
      return refuse(
        `These are ${length} characters, more than the ${MOST_CHARACTERS} that a configuration here holds: ` +
          "put the file into the trainer’s folder of models and choose it here",
      );
    }
    refuse("");
    await draft.change([{ path, value: { list: { prompts } } }]);
  };
  const take = async () => {
    const chosen = upload.files?.[0];
    upload.value = "";
    if (chosen === undefined) return;
    const prompts = linesOf(await chosen.text());
    if (prompts.length === 0) return refuse(`${chosen.name} holds no prompt`);
    typed.value = prompts.join("\n");
    await writeList(prompts);
  };
  const choose = (kind: string) => {
    refuse("");
    if (kind === "none") draft.change([{ path, value: null }]);
    else if (kind === "list") {
      draft.change([{ path, value: { list: { prompts: linesOf(typed.value) } } }]);
      typed.focus();
    } else {
      const [first = ""] = trainer.promptFiles;
      draft.change([{ path, value: { file: file.value || first } }]);
    }
  };
  let shown: string | undefined;
  /** The files there are, and the one that is named where it is none of them. */
  const fillFiles = (named: string | undefined) => {
    const stray = named !== undefined && !trainer.promptFiles.includes(named) ? named : "";
    // Filled anew, a list that is open would close.
    if (shown === stray) return;
    shown = stray;
    replace(
      file,
      ...trainer.promptFiles.map((path) => h("option", { value: path }, path)),
      stray !== "" && h("option", { value: stray }, `${stray} (not here)`),
    );
  };
  const inList = h(
    "div",
    {},
    typed,
    h(
      "div",
      { class: "under-list" },
      button("Upload a text file", () => upload.click(), { class: "small" }),
      upload,
      count,
    ),
  );
  const element = h(
    "fieldset",
    { class: "field", "data-field": path.join(".") },
    h("legend", { class: "field-label" }, field.label),
    h(
      "div",
      { class: "choices" },
      ...kinds.map(([kind, label]) => h("label", { class: "choice" }, radios.get(kind), label)),
    ),
    inList,
    file,
    help(field.help, `${id}-help`),
    fault,
  );
  return {
    element,
    update() {
      const value = valueAt(draft.config, path);
      const name = valueAt(value, ["file"]);
      const list = valueAt(value, ["list"]);
      const kind = name !== undefined ? "file" : list !== undefined || !optional ? "list" : "none";
      for (const [other, radio] of radios) radio.checked = other === kind;
      inList.hidden = kind !== "list";
      file.hidden = kind !== "file";
      fillFiles(typeof name === "string" ? name : undefined);
      if (typeof name === "string") file.value = name;
      const prompts = valueAt(list, ["prompts"]);
      const lines = Array.isArray(prompts) ? prompts.map(String) : [];
      // What was typed and is not in the configuration yet stays.
      if (document.activeElement !== typed && timer === undefined) typed.value = lines.join("\n");
      say(count, lines.length === 1 ? "1 prompt" : `${lines.length} prompts`);
      say(fault, context.faultOf(path) || own);
    },
  };
}
