import type { RunConfig } from "../types.ts";

/** A field that is not the same in all configurations. */
export interface Difference {
  /** As "lora.rank". */
  readonly field: string;
  /** In order of the configurations; "" where it is not set. */
  readonly values: readonly string[];
}

/** The fields in which configurations differ, in order of their appearance. */
export function configDifferences(configs: readonly RunConfig[]): Difference[] {
  const flat = configs.map((config) => new Map(leaves(config)));
  const fields = new Set(flat.flatMap((one) => [...one.keys()]));
  return [...fields]
    .map((field) => ({ field, values: flat.map((one) => one.get(field) ?? "") }))
    .filter(({ values }) => new Set(values).size > 1);
}

function leaves(value: unknown, path: readonly string[] = []): [field: string, text: string][] {
  // Of prompts their digest and number tell: lists may be cut, and are long.
  if (path.at(-1) === "list" && path.at(-2)?.toLowerCase().endsWith("prompts")) return [];
  if (Array.isArray(value)) {
    return value.every((inner) => typeof inner !== "object")
      ? [[path.join("."), value.join(", ")]]
      : value.flatMap((inner, i) => leaves(inner, [...path, nameOf(inner) ?? String(i)]));
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).flatMap(([name, inner]) => leaves(inner, [...path, name]));
  }
  return [[path.join("."), value === undefined || value === null ? "" : String(value)]];
}

/** A reward's name, so that it is compared with the one of that name wherever it stands. */
function nameOf(value: unknown): string | undefined {
  const named = typeof value === "object" && value !== null && "name" in value;
  return named && typeof value.name === "string" && value.name !== "" ? value.name : undefined;
}
