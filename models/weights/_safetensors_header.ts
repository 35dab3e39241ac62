import { BYTES_PER_ELEMENT, type DType, type Shape, sizeOf } from "../../autodiff/mod.ts";
import type { Float8 } from "./float8.ts";
import { WeightsError } from "./weights_error.ts";

/** Longest header the format allows, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Bytes before the header: its length as a little-endian 64-bit integer. */
export const PREFIX_BYTES = 8;

/** Where one tensor lies in a safetensors file. */
export interface SafetensorsEntry {
  readonly dtype: DType;
  readonly shape: Shape;
  /** How the bytes are to be read where they are floats in eight bits: then `dtype`, float16, is what `read` makes of them. */
  readonly float8?: Float8;
  /** From the start of the file, in bytes: what ONNX external data calls offset. Not necessarily aligned. */
  readonly fileOffset: number;
  readonly byteLength: number;
}

/** What a safetensors header says. */
export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
}

/** A tensor to be laid out: its name, dtype and shape. */
export interface TensorLayout {
  readonly dtype: DType;
  readonly shape: Shape;
}

type Layout = Pick<SafetensorsEntry, "dtype" | "shape" | "float8">;

const CODES = [
  ["float64", "F64"],
  ["int64", "I64"],
  ["float32", "F32"],
  ["int32", "I32"],
  ["float16", "F16"],
  ["bfloat16", "BF16"],
  ["int8", "I8"],
  ["uint8", "U8"],
  ["bool", "BOOL"],
] as const;

const FLOAT8: ReadonlyMap<unknown, Float8> = new Map([
  ["F8_E4M3", "float8_e4m3fn"],
  ["F8_E5M2", "float8_e5m2"],
]);

const CODE_OF: ReadonlyMap<DType, string> = new Map(CODES);
const DTYPE_OF: ReadonlyMap<unknown, DType> = new Map(CODES.map(([dtype, code]) => [code, dtype]));

/** The header's length in bytes, read from the first 8 bytes of a file of `fileSize` bytes. */
export function headerLength(
  prefix: Uint8Array,
  { max = MAX_HEADER_BYTES, ...file }: { path: string; size: number; max?: number | undefined },
): number {
  if (prefix.length < PREFIX_BYTES) {
    throw new WeightsError(file.path, `has ${file.size} bytes, expected at least ${PREFIX_BYTES}`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > max) {
    throw new WeightsError(
      file.path,
      `is not safetensors, or damaged: header length is ${length}, expected at most ${max}`,
    );
  }
  if (Number(length) > file.size - PREFIX_BYTES) {
    throw new WeightsError(
      file.path,
      `header length is ${length}, expected at most the ${
        file.size - PREFIX_BYTES
      } bytes that follow it`,
    );
  }
  return Number(length);
}

/**
 * Parses and checks a header: known dtypes, sizes that equal shape times element size, and byte ranges that
 * cover the data exactly, with neither overlap nor hole.
 */
export function parseHeader(
  header: Uint8Array,
  file: { path: string; size: number },
): SafetensorsHeader {
  const fail = (detail: string, options?: ErrorOptions): never => {
    throw new WeightsError(file.path, detail, options);
  };
  const entries = parseObject(header, fail);
  const dataStart = PREFIX_BYTES + header.length;
  const metadata = new Map<string, string>();
  const found: { name: string; begin: number; end: number; layout: Layout }[] = [];
  for (const [name, value] of entries) {
    if (name === "__metadata__") {
      if (!isObject(value)) return fail("__metadata__ is not an object of strings");
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== "string") return fail(`__metadata__ "${key}" is not a string`);
        metadata.set(key, text);
      }
      continue;
    }
    const quoted = JSON.stringify(name);
    if (!isObject(value)) return fail(`tensor ${quoted} is not described by an object`);
    const { dtype: code, shape, data_offsets: offsets } = value;
    const float8 = FLOAT8.get(code);
    const dtype = float8 !== undefined ? "float16" : DTYPE_OF.get(code) ?? fail(
      `tensor ${quoted} has dtype ${JSON.stringify(code)}, expected one of ${
        [...DTYPE_OF.keys(), ...FLOAT8.keys()].join(", ")
      }`,
    );
    if (!isSizes(shape)) {
      return fail(
        `tensor ${quoted} has shape ${JSON.stringify(shape)}, expected non-negative integers`,
      );
    }
    const [begin, end] = isSizes(offsets) && offsets.length === 2 ? offsets : [];
    if (begin === undefined || end === undefined || end < begin) {
      return fail(
        `tensor ${quoted} has data_offsets ${JSON.stringify(offsets)}, expected [begin, end]`,
      );
    }
    const expected = float8 === undefined ? byteSize({ dtype, shape }) : sizeOf(shape);
    if (end - begin !== expected) {
      return fail(
        `tensor ${quoted} has ${end - begin} bytes, expected ${expected} for ${float8 ?? dtype} [${
          shape.join(", ")
        }]`,
      );
    }
    const layout = { dtype, shape, ...(float8 !== undefined && { float8 }) };
    found.push({ name, begin, end, layout });
  }

  found.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const tensors = new Map<string, SafetensorsEntry>();
  let covered = 0;
  for (const { name, begin, end, layout } of found) {
    if (begin !== covered) {
      const what = begin < covered ? "overlaps the tensor before it" : "leaves a hole before it";
      return fail(
        `tensor ${JSON.stringify(name)} ${what}: begins at ${begin}, expected ${covered}`,
      );
    }
    covered = end;
    tensors.set(name, { ...layout, fileOffset: dataStart + begin, byteLength: end - begin });
  }
  const available = file.size - dataStart;
  if (covered !== available) {
    return fail(
      `has ${available} bytes of data, expected ${covered}` +
        (available < covered ? ": it is truncated" : ""),
    );
  }
  return { metadata, tensors };
}

/**
 * Prefix and header, and the names in the order in which the tensors follow: larger elements first, then by name,
 * so that every tensor is aligned to its element size. Padded with spaces to a multiple of 8 bytes.
 */
export function encodeHeader(
  layouts: ReadonlyMap<string, TensorLayout>,
  metadata: Readonly<Record<string, string>> = {},
): { prefixAndHeader: Uint8Array<ArrayBuffer>; names: string[] } {
  const ordered = [...layouts].sort(([nameA, a], [nameB, b]) =>
    BYTES_PER_ELEMENT[b.dtype] - BYTES_PER_ELEMENT[a.dtype] || compare(nameA, nameB)
  );
  const fields: string[] = [];
  const keys = Object.keys(metadata).sort(compare);
  if (keys.length > 0) fields.push(`"__metadata__":${JSON.stringify(metadata, keys)}`);
  let begin = 0;
  for (const [name, { dtype, shape }] of ordered) {
    const end = begin + byteSize({ dtype, shape });
    const entry = { dtype: CODE_OF.get(dtype), shape, data_offsets: [begin, end] };
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    begin = end;
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  const prefixAndHeader = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(prefixAndHeader.buffer).setBigUint64(0, BigInt(length), true);
  prefixAndHeader.set(json, PREFIX_BYTES);
  return { prefixAndHeader, names: ordered.map(([name]) => name) };
}

/** Bytes a tensor takes; Infinity or inexact, and so never equal to a true length, where it exceeds 2^53. */
export function byteSize({ dtype, shape }: TensorLayout): number {
  // A zero dimension anywhere makes the size zero, however large the others are.
  return shape.includes(0) ? 0 : shape.reduce((n, d) => n * d, BYTES_PER_ELEMENT[dtype]);
}

function parseObject(
  bytes: Uint8Array,
  fail: (detail: string, options?: ErrorOptions) => never,
): [string, unknown][] {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    return fail("header is not valid JSON", { cause });
  }
  return isObject(value) ? Object.entries(value) : fail("header is not a JSON object");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
