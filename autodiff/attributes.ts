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

function missing(name: string): never {
  throw new TypeError(`Attribute ${name} is missing`);
}

/** Reads an int attribute; where the node leaves it out, that is `fallback`, or an error if there is none. */
export function intOf(attributes: Attributes, name: string, fallback?: number): number {
  const a = attributes[name];
  if (a === undefined) return fallback ?? missing(name);
  return a.type === "int" ? a.value : wrongType(name, a, "int");
}

/** Reads a float attribute, as `intOf`; like one in a file, the fallback has float32 precision. */
export function floatOf(attributes: Attributes, name: string, fallback?: number): number {
  const a = attributes[name];
  if (a === undefined) return Math.fround(fallback ?? missing(name));
  return a.type === "float" ? a.value : wrongType(name, a, "float");
}

/** Reads a string attribute, as `intOf`. */
export function stringOf(attributes: Attributes, name: string, fallback?: string): string {
  const a = attributes[name];
  if (a === undefined) return fallback ?? missing(name);
  return a.type === "string" ? a.value : wrongType(name, a, "string");
}

/** Reads an ints attribute; `undefined` where the node leaves it out. */
export function intsOf(attributes: Attributes, name: string): readonly number[] | undefined {
  const a = attributes[name];
  if (a === undefined) return undefined;
  return a.type === "ints" ? a.value : wrongType(name, a, "ints");
}

/** Reads attributes by name. What has no fallback is required: it is an error where a node leaves it out. */
export interface AttributeReader {
  int(name: string, fallback?: number): number;
  /** An int that is 1 or 0. */
  flag(name: string, fallback: boolean): boolean;
  float(name: string, fallback?: number): number;
  string(name: string, fallback?: string): string;
  ints(name: string): readonly number[];
  optionalInts(name: string): readonly number[] | undefined;
}

/** Reads the attributes of a node. */
export function readerOf(given: Attributes): AttributeReader {
  return {
    int: (name, fallback) => intOf(given, name, fallback),
    flag: (name, fallback) => intOf(given, name, Number(fallback)) === 1,
    float: (name, fallback) => floatOf(given, name, fallback),
    string: (name, fallback) => stringOf(given, name, fallback),
    ints: (name) => intsOf(given, name) ?? missing(name),
    optionalInts: (name) => intsOf(given, name),
  };
}

/** The names and types of the attributes that `read` asks for. */
export function askedFor(
  read: (reader: AttributeReader) => unknown,
): ReadonlyMap<string, Attribute["type"]> {
  const types = new Map<string, Attribute["type"]>();
  const asked = <T>(name: string, type: Attribute["type"], value: T): T => {
    types.set(name, type);
    return value;
  };
  read({
    int: (name) => asked(name, "int", 0),
    flag: (name) => asked(name, "int", false),
    float: (name) => asked(name, "float", 0),
    string: (name) => asked(name, "string", ""),
    ints: (name) => asked(name, "ints", []),
    optionalInts: (name) => asked(name, "ints", undefined),
  });
  return types;
}
