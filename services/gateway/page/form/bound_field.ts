import { h, replace, say } from "../dom.ts";
import { type FieldPath, valueAt } from "./config_draft.ts";
import type { FormContext, FormPart } from "./form_context.ts";
import { type FormField, sentences } from "./form_field.ts";

/** What somebody may choose, where that is known beside the contract. */
export interface Option {
  readonly value: string;
  readonly label: string;
}

/** The time somebody stops typing in a field before the configuration follows. */
const FOLLOW_MS = 250;

type Input = HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

let lastId = 0;

/**
 * A field of the configuration as an input of its kind, with the contract's comment as help and its default in place of a
 * value.
 *
 * @param options to choose from; default: the contract's
 */
export function boundField(
  { field, path, options }: {
    readonly field: FormField;
    readonly path: FieldPath;
    readonly options?: () => readonly Option[];
  },
  context: FormContext,
): FormPart {
  const id = `field-${++lastId}`;
  const { draft } = context;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const input = inputOf(field, options !== undefined);
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-help ${id}-fault`);
  /** What was put in last and is not in the configuration yet: it must not be overwritten by what is. */
  let waiting: symbol | undefined;
  /** What the draft was told last. */
  let followed: symbol | undefined;
  const follow = async (own: symbol) => {
    if (waiting !== own || followed === own) return;
    const value = read(input, field);
    if (value === INVALID) return mark(`expected ${EXPECTED[field.kind] ?? "another value"}`);
    followed = own;
    await draft.change([{ path, value }]);
    if (waiting === own) waiting = undefined;
  };
  input.addEventListener("input", () => {
    const own = waiting = Symbol();
    clearTimeout(timer);
    timer = setTimeout(() => follow(own), input instanceof HTMLSelectElement ? 0 : FOLLOW_MS);
  });
  // Whoever leaves the field, as for the button that starts the run, waits for no timer.
  input.addEventListener("change", () => {
    clearTimeout(timer);
    if (waiting !== undefined) void follow(waiting);
  });
  const fault = h("span", { id: `${id}-fault`, class: "fault" });
  const mark = (text: string) => {
    say(fault, text);
    input.ariaInvalid = String(text !== "");
  };
  const list = field.kind === "text" && options === undefined && field.choices.length > 0 &&
    h(
      "datalist",
      { id: `${id}-choices` },
      ...field.choices.map((value) => h("option", { value })),
    );
  if (list) input.setAttribute("list", list.id);
  const element = h(
    "div",
    { class: "field", "data-field": path.join(".") },
    h("label", { class: "field-label", for: id }, field.label),
    input,
    list,
    help(field.help, `${id}-help`),
    fault,
  );
  return {
    element,
    update() {
      if (waiting !== undefined) return;
      mark(context.faultOf(path));
      const value = valueAt(draft.config, path);
      const planned = valueAt(context.planned(), path);
      if (input instanceof HTMLSelectElement) {
        const given = options?.() ?? optionsOf(field);
        fillSelect(input, { options: given, value, planned });
      } else {
        input.placeholder = planned === undefined ? "" : text(planned, field);
        if (document.activeElement !== input) input.value = text(value, field);
      }
    },
  };
}

/** The first sentence of a comment; the rest is unfolded. */
export function help(text: string, id: string): HTMLElement {
  const [first, rest] = sentences(text);
  return h(
    "div",
    { class: "help", id },
    h("span", { class: "hint" }, first),
    rest !== "" && h("details", {}, h("summary", {}, "More"), h("p", {}, rest)),
  );
}

const INVALID = Symbol("invalid");

const EXPECTED: Readonly<Partial<Record<FormField["kind"], string>>> = {
  number: "a number",
  integer: "a whole number",
  numbers: "numbers with commas between them",
  map: "a name, a colon and a number on each line",
};

function inputOf({ kind }: FormField, choose: boolean): Input {
  if (choose || kind === "switch" || kind === "choice") return h("select", {});
  if (kind === "map") return h("textarea", { rows: 2, spellcheck: "false" });
  const isNumber = kind === "number" || kind === "integer";
  return h("input", {
    type: isNumber ? "number" : "text",
    autocomplete: "off",
    spellcheck: "false",
    ...(isNumber && { step: kind === "integer" ? 1 : "any" }),
  });
}

function optionsOf({ kind, choices }: FormField): readonly Option[] {
  if (kind === "switch") return [{ value: "true", label: "yes" }, { value: "false", label: "no" }];
  const prefix = commonPrefix(choices);
  return choices.map((value) => ({ value, label: value.slice(prefix.length).toLowerCase() }));
}

/** "GUIDANCE_GRADIENT_" of its values. */
function commonPrefix([first = "", ...others]: readonly string[]): string {
  let prefix = first;
  while (!others.every((name) => name.startsWith(prefix))) prefix = prefix.slice(0, -1);
  return prefix.slice(0, prefix.lastIndexOf("_") + 1);
}

/** The first choice is none, which takes the default. A value that is no choice is one: the text may say what it wants. */
function fillSelect(
  select: HTMLSelectElement,
  { options, value, planned }: {
    readonly options: readonly Option[];
    readonly value: unknown;
    readonly planned: unknown;
  },
): void {
  const chosen = value === undefined ? "" : String(value);
  const known = options.find((option) => option.value === String(planned))?.label;
  const standard = planned === undefined ? "default" : `default: ${known ?? String(planned)}`;
  const stray = chosen !== "" && !options.some((option) => option.value === chosen);
  const all: Option[] = [
    { value: "", label: standard },
    ...options,
    ...(stray ? [{ value: chosen, label: `${chosen} (not known here)` }] : []),
  ];
  const shown = JSON.stringify(all);
  if (select.dataset["shown"] !== shown) {
    select.dataset["shown"] = shown;
    replace(select, ...all.map(({ value, label }) => h("option", { value }, label)));
  }
  select.value = chosen;
}

/** The value that an input says: null for none, INVALID for what is of another kind. */
function read(input: Input, { kind }: FormField): unknown {
  if (input instanceof HTMLInputElement && input.validity.badInput) return INVALID;
  const written = input.value.trim();
  if (written === "") return null;
  switch (kind) {
    case "switch":
      return written === "true";
    case "number":
      return finite(written);
    case "integer":
      return Number.isInteger(Number(written)) ? Number(written) : INVALID;
    case "texts":
      return written.split(",").map((part) => part.trim()).filter((part) => part !== "");
    case "numbers": {
      const numbers = written.split(",").map((part) => finite(part.trim()));
      return numbers.includes(INVALID) ? INVALID : numbers;
    }
    case "map":
      return readMap(written);
    default:
      return written;
  }
}

const finite = (written: string) =>
  written !== "" && Number.isFinite(Number(written)) ? Number(written) : INVALID;

function readMap(written: string): unknown {
  const entries = written.split("\n").filter((line) => line.trim() !== "").map((line) => {
    const colon = line.lastIndexOf(":");
    return [
      line.slice(0, Math.max(0, colon)).trim(),
      finite(line.slice(colon + 1).trim()),
    ] as const;
  });
  const isWhole = entries.every(([name, value]) => name !== "" && value !== INVALID);
  return isWhole ? Object.fromEntries(entries) : INVALID;
}

/** A value as it is typed. */
function text(value: unknown, { kind }: FormField): string {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.join(", ");
  if (kind === "map" && typeof value === "object") {
    return Object.entries(value).map(([name, inner]) => `${name}: ${inner}`).join("\n");
  }
  return String(value);
}
