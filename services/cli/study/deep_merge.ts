/** Named values, as of a YAML mapping. */
export type Fields = Readonly<Record<string, unknown>>;

/**
 * Mappings laid over one another, the later ones above; lists and values are replaced as wholes, and null takes away
 * what is below it.
 */
export function deepMerge(...layers: readonly Fields[]): Fields {
  const merged: Record<string, unknown> = {};
  for (const layer of layers) {
    for (const [name, value] of Object.entries(layer)) {
      const below = merged[name];
      if (value === null) delete merged[name];
      else merged[name] = isFields(below) && isFields(value) ? deepMerge(below, value) : value;
    }
  }
  return merged;
}

/** Whether a value is a mapping. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
