/** One ONNX attribute; tagged, since a JavaScript number is neither an int nor a float. */
export type Attribute =
  | { readonly type: "int"; readonly value: number }
  | { readonly type: "float"; readonly value: number }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "ints"; readonly value: readonly number[] };

/** Attributes of a node by name. */
export type Attributes = Readonly<Record<string, Attribute>>;

/** An ONNX `INT` attribute. */
export const int = (value: number): Attribute => ({ type: "int", value });
/** An ONNX `FLOAT` attribute, rounded to float32 as in a model file. */
export const float = (value: number): Attribute => ({ type: "float", value: Math.fround(value) });
/** An ONNX `STRING` attribute. */
export const string = (value: string): Attribute => ({ type: "string", value });
/** An ONNX `INTS` attribute. */
export const ints = (value: readonly number[]): Attribute => ({ type: "ints", value });

function wrongType(name: string, found: Attribute, expected: Attribute["type"]): never {
  throw new TypeError(`Attribute "${name}" is of type ${found.type}, expected ${expected}`);
}

/** Reads an int attribute; `fallback` is ONNX's default where the node leaves it out. */
export function intOf(attributes: Attributes, name: string, fallback: number): number {
  const a = attributes[name];
  if (a === undefined) return fallback;
  return a.type === "int" ? a.value : wrongType(name, a, "int");
}

/** Reads a float attribute; like one in a file, the fallback has float32 precision. */
export function floatOf(attributes: Attributes, name: string, fallback: number): number {
  const a = attributes[name];
  if (a === undefined) return Math.fround(fallback);
  return a.type === "float" ? a.value : wrongType(name, a, "float");
}

/** Reads a string attribute. */
export function stringOf(attributes: Attributes, name: string, fallback: string): string {
  const a = attributes[name];
  if (a === undefined) return fallback;
  return a.type === "string" ? a.value : wrongType(name, a, "string");
}

/** Reads an ints attribute; `undefined` where the node leaves it out. */
export function intsOf(attributes: Attributes, name: string): readonly number[] | undefined {
  const a = attributes[name];
  if (a === undefined) return undefined;
  return a.type === "ints" ? a.value : wrongType(name, a, "ints");
}
