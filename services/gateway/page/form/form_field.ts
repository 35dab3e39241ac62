import {
  type Contract,
  isNumber,
  messageName,
  resolve,
  type Schema,
  valuesOf,
} from "../contract.ts";

/** What somebody fills in. "messages" is a list of messages. */
export type FieldKind =
  | "text"
  | "number"
  | "integer"
  | "switch"
  | "choice"
  | "texts"
  | "numbers"
  | "map"
  | "message"
  | "messages";

/** A field of a message as a form shows it; all of it from the contract. */
export interface FormField {
  /** In camelCase, as in JSON and YAML. */
  readonly name: string;
  /** The name in words. */
  readonly label: string;
  readonly kind: FieldKind;
  /** The contract's comment. */
  readonly help: string;
  /** Of "choice": values of the enum but the one that stands for none. Of "text": what the comment names in quotes. */
  readonly choices: readonly string[];
  /** Of "message" and "messages": the message's name. */
  readonly message: string;
}

/** The fields of a message, in the contract's order. */
export function fieldsOf(message: string, contract: Contract): FormField[] {
  const { properties = {} } = contract.components.schemas[message] ?? {};
  return Object.entries(properties).map(([name, schema]) => {
    const help = schema.description ?? "";
    const kind = kindOf(schema, contract);
    return {
      name,
      label: labelOf(name),
      kind,
      help,
      choices: kind === "choice"
        ? enumValues(schema, contract)
        : kind === "text"
        ? quoted(help)
        : [],
      message: messageName(schema.items ?? schema) ?? "",
    };
  });
}

/** "inputStopGradient" in words: "Input stop gradient". */
export function labelOf(name: string): string {
  const words = name.replaceAll(/(?<=[a-z0-9])[A-Z]/g, (ch) => ` ${ch.toLowerCase()}`);
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}`;
}

/** A comment's first sentence, and the rest. Dots in numbers and in abbreviations end no sentence. */
export function sentences(help: string): readonly [first: string, rest: string] {
  const end = /[.;](?=\s+(?:[A-Z0-9"`]|$))/.exec(help);
  return end === null
    ? [help, ""]
    : [help.slice(0, end.index + 1).replace(/;$/, "."), help.slice(end.index + 1).trim()];
}

function kindOf(schema: Schema, contract: Contract): FieldKind {
  const { type, items } = schema;
  const full = resolve(schema, contract);
  if (full.enum !== undefined) return "choice";
  if (full.properties !== undefined) return "message";
  if (valuesOf(schema) !== undefined) return "map";
  if (items !== undefined) {
    if (resolve(items, contract).properties !== undefined) return "messages";
    return isNumber(items) || items.type === "integer" ? "numbers" : "texts";
  }
  if (isNumber(schema)) return "number";
  return type === "integer" ? "integer" : type === "boolean" ? "switch" : "text";
}

function enumValues(schema: Schema, contract: Contract): string[] {
  return (resolve(schema, contract).enum ?? []).filter((name) => !name.endsWith("_UNSPECIFIED"));
}

/** Words in quotes that might be values: "float32" (default) or "float16". */
function quoted(help: string): string[] {
  return [...new Set([...help.matchAll(/"([\w.+-]+)"/g)].map(([, word = ""]) => word))];
}
