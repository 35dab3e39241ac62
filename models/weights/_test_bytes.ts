import { OPCODES as O } from "./_pickle_opcodes.ts";

/** Builders of pickles and zip archives byte by byte, for tests of what no library would write. */

/** A byte, text in UTF-8, bytes, or a sequence of these. */
export type Part = number | string | Uint8Array | readonly Part[];

export function bytesOf(...parts: readonly Part[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(parts.flatMap((part): number[] => {
    if (typeof part === "number") return [part];
    if (typeof part === "string") return [...new TextEncoder().encode(part)];
    return part instanceof Uint8Array ? [...part] : [...bytesOf(...part)];
  }));
}

/** A number in little-endian bytes. */
export function le(value: number, byteCount: number): Part {
  return Array.from({ length: byteCount }, (_, i) => Math.floor(value / 256 ** i) % 256);
}

export const V2 = [O.PROTO, 2] as const;

export function text(value: string): Part {
  return [O.SHORT_BINUNICODE, value.length, value];
}

export function global(module: string, name: string): Part {
  return [O.GLOBAL, `${module}\n${name}\n`];
}

export function int(value: number): Part {
  return [O.BININT, le(value >>> 0, 4)];
}

/** A float32 storage of `length` elements on a GPU. */
export function storage(length: number, key = "0"): Part {
  return [
    [O.MARK, text("storage"), global("torch", "FloatStorage"), text(key), text("cuda:0")],
    [int(length), O.TUPLE, O.BINPERSID],
  ];
}

/** A tensor over a storage of `length` elements. */
export function tensor(
  length: number,
  { offset = 0, shape = [length], strides = [1] }: {
    offset?: number;
    shape?: readonly number[];
    strides?: readonly number[];
  } = {},
): Part {
  const ints = (values: readonly number[]) => [O.MARK, values.map(int), O.TUPLE];
  return [
    global("torch._utils", "_rebuild_tensor_v2"),
    [O.MARK, storage(length), int(offset), ints(shape), ints(strides)],
    [O.NEWFALSE, O.EMPTY_DICT, O.TUPLE, O.REDUCE],
  ];
}

/** A file in the layout before PyTorch 1.6 with one float32 storage of zeros, or none when `length` is undefined. */
export function legacyFile(root: Part, length?: number): Uint8Array<ArrayBuffer> {
  const magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
  return bytesOf(
    [V2, O.LONG1, 10, magic, O.STOP, V2, O.BININT2, 0xe9, 3, O.STOP],
    [V2, O.EMPTY_DICT, text("little_endian"), O.NEWTRUE, O.SETITEM, O.STOP],
    [V2, root, O.STOP],
    [V2, O.EMPTY_LIST, length === undefined ? [] : [text("0"), O.APPEND], O.STOP],
    length === undefined ? [] : [le(length, 8), new Uint8Array(4 * length)],
  );
}

/** One entry of `zipFile`. What is left out is what an honest writer would put there. */
export interface ZipPart {
  readonly name: string;
  readonly data: Part;
  readonly method?: number;
  readonly flags?: number;
  readonly size?: number;
  readonly stored?: number;
  readonly headerAt?: number;
}

/** A zip archive. `end` overrides fields of the end record. */
export function zipFile(
  parts: readonly ZipPart[],
  end: { count?: number; size?: number; at?: number } = {},
): Uint8Array<ArrayBuffer> {
  const body: Part[] = [];
  const directory: Part[] = [];
  let at = 0;
  for (const { name, data, method = 0, flags = 0, ...lies } of parts) {
    const { length } = bytesOf(data);
    const { size = length, stored = length, headerAt = at } = lies;
    const common = [le(flags, 2), le(method, 2), le(0, 8), le(stored, 4), le(size, 4)];
    const entry = bytesOf(
      "PK\x03\x04",
      le(20, 2),
      common,
      le(name.length, 2),
      le(0, 2),
      name,
      data,
    );
    body.push(entry);
    directory.push(["PK\x01\x02", le(20, 2), le(20, 2), common, le(name.length, 2), le(0, 12)]);
    directory.push([le(headerAt, 4), name]);
    at += entry.length;
  }
  const { count = parts.length, size = bytesOf(directory).length } = end;
  return bytesOf(
    [body, directory, "PK\x05\x06", le(0, 4), le(count, 2), le(count, 2)],
    [le(size, 4), le(end.at ?? at, 4), le(0, 2)],
  );
}
