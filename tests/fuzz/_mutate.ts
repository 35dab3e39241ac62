import { Buffer } from "node:buffer";

/** Whole numbers from a seed: the same everywhere (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to below `sides`. */
  roll(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 2 ** 32 * sides);
  }

  /** One of these. */
  pick<T>(values: readonly [T, ...T[]]): T {
    return values[this.roll(values.length)] ?? values[0];
  }
}

const BYTES = [0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x2e, 0x22, 0x5b, 0x7b] as const;
const NUMBERS = [
  0n,
  1n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 40n,
  (1n << 63n) - 1n,
] as const;

/** Changes bytes: flips, cuts, repeats, lengths that lie. Two kinds of file in one where there is another. */
export function mutateBytes(seed: Uint8Array, dice: Dice, other = seed): Uint8Array {
  let bytes = Buffer.from(seed);
  for (let left = 1 + dice.roll(4); left > 0; left--) {
    const at = dice.roll(Math.max(1, bytes.length));
    const length = 1 + dice.roll(Math.min(64, Math.max(1, bytes.length - at)));
    switch (dice.roll(7)) {
      case 0:
        if (bytes.length > 0) bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.roll(8));
        break;
      case 1:
        if (bytes.length > 0) bytes[at] = dice.pick(BYTES);
        break;
      case 2:
        bytes = bytes.subarray(0, at);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      case 5:
        if (at + 8 <= bytes.length) bytes.writeBigUInt64LE(dice.pick(NUMBERS), at);
        break;
      default: {
        const from = dice.roll(Math.max(1, other.length));
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          other.subarray(from, from + 64),
          bytes.subarray(at),
        ]);
      }
    }
  }
  return new Uint8Array(bytes);
}

/** Values that no field expects. */
const VALUES: readonly [unknown, ...unknown[]] = [
  null,
  true,
  -1,
  0,
  0.5,
  1e300,
  2 ** 53,
  "",
  "NaN",
  "x".repeat(5000),
  "../../etc/passwd",
  "\u0000",
  "\ud800",
  [],
  {},
  [[[[]]]],
  { __proto__: null, constructor: 1 },
  Array.from({ length: 300 }, () => 0),
];

/** Changes a JSON value at a place in it: another value, a field less, twice or of another name, a list that is longer. */
export function mutateJson(value: unknown, dice: Dice): unknown {
  if (typeof value !== "object" || value === null || dice.roll(6) === 0) return dice.pick(VALUES);
  if (Array.isArray(value)) {
    const at = dice.roll(Math.max(1, value.length));
    switch (dice.roll(4)) {
      case 0:
        return value.toSpliced(at, 1);
      case 1:
        return value.toSpliced(at, 0, ...value.slice(at, at + 1), dice.pick(VALUES));
      default:
        return value.length === 0
          ? [dice.pick(VALUES)]
          : value.with(at, mutateJson(value[at], dice));
    }
  }
  const entries = Object.entries(value);
  const at = dice.roll(Math.max(1, entries.length));
  const [name = "field", inner = null] = entries[at] ?? [];
  switch (dice.roll(6)) {
    case 0:
      return Object.fromEntries(entries.toSpliced(at, 1));
    case 1:
      return Object.fromEntries([...entries, [`${name}${dice.roll(3) ? "2" : "\u0000"}`, inner]]);
    case 2:
      return Object.fromEntries(entries.toSpliced(at, 1, ["__proto__", inner]));
    default:
      return Object.fromEntries(
        entries.map(([key, one], i) => [key, i === at ? mutateJson(one, dice) : one]),
      );
  }
}

/** Changes a JSON text by its structure, or now and then by its bytes. */
export function mutateJsonText(seed: Uint8Array, dice: Dice): Uint8Array {
  if (dice.roll(4) === 0) return mutateBytes(seed, dice);
  let value: unknown = JSON.parse(new TextDecoder().decode(seed));
  for (let left = 1 + dice.roll(3); left > 0; left--) value = mutateJson(value, dice);
  return new TextEncoder().encode(JSON.stringify(value) ?? "");
}

/** Changes lines of JSON: the value of one, or their order. */
export function mutateJsonLines(seed: Uint8Array, dice: Dice): Uint8Array {
  const lines = new TextDecoder().decode(seed).trimEnd().split("\n");
  const at = dice.roll(lines.length);
  const line = new TextEncoder().encode(lines[at]);
  const changed = dice.roll(4) === 0
    ? lines.toSpliced(at, 1)
    : lines.with(at, new TextDecoder().decode(mutateJsonText(line, dice)));
  return new TextEncoder().encode(changed.join("\n") + (dice.roll(4) ? "\n" : ""));
}

/** Changes the JSON header of a safetensors file, its length kept true, or its bytes. */
export function mutateSafetensors(seed: Uint8Array, dice: Dice): Uint8Array {
  if (dice.roll(3) === 0) return mutateBytes(seed.subarray(0, 4096), dice);
  const length = Number(new DataView(seed.buffer, seed.byteOffset).getBigUint64(0, true));
  const header = mutateJsonText(seed.subarray(8, 8 + length), dice);
  const bytes = new Uint8Array(8 + header.length + seed.length - 8 - length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  bytes.set(seed.subarray(8 + length), 8 + header.length);
  return bytes;
}

/** A field of a message as it lies in the encoding. */
interface WireField {
  readonly tag: number;
  /** The value, its length included where it has one. */
  readonly head: Uint8Array;
  readonly body: Uint8Array;
}

/** Changes a message by its fields: one less, one twice, another number or type, its value, also within messages. */
export function mutateMessage(seed: Uint8Array, dice: Dice, depth = 0): Uint8Array {
  const fields = fieldsOf(seed);
  if (fields === undefined || fields.length === 0 || dice.roll(5) === 0) {
    return mutateBytes(seed, dice);
  }
  const at = dice.roll(fields.length);
  const field = fields[at];
  if (field === undefined) return seed;
  const changed = (): readonly WireField[] => {
    switch (dice.roll(5)) {
      case 0:
        return [];
      case 1:
        return Array.from({ length: 2 + dice.roll(30) }, () => field);
      case 2:
        return [{ ...field, tag: field.tag ^ (1 << dice.roll(6)) }];
      default: {
        const body = field.tag % 8 === 2 && depth < 6
          ? mutateMessage(field.body, dice, depth + 1)
          : mutateBytes(field.body, dice);
        return [{
          tag: field.tag,
          head: field.tag % 8 === 2 ? varint(body.length) : new Uint8Array(),
          body,
        }];
      }
    }
  };
  const bytes = Buffer.concat(
    fields.toSpliced(at, 1, ...changed()).flatMap((
      { tag, head, body },
    ) => [varint(tag), head, body]),
  );
  return new Uint8Array(bytes);
}

function fieldsOf(bytes: Uint8Array): readonly WireField[] | undefined {
  const fields: WireField[] = [];
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) return undefined;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return undefined;
  };
  while (at < bytes.length) {
    const tag = number();
    if (tag === undefined) return undefined;
    const start = at;
    const type = tag % 8;
    const length = type === 2 ? number() : type === 5 ? 4 : type === 1 ? 8 : undefined;
    if (type === 0) number();
    else if (length === undefined) return undefined;
    const from = type === 0 ? start : at;
    at = type === 0 ? at : at + (length ?? 0);
    if (at > bytes.length) return undefined;
    fields.push({ tag, head: bytes.subarray(start, from), body: bytes.subarray(from, at) });
  }
  return fields;
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let left = value; bytes.length === 0 || left > 0; left = Math.floor(left / 128)) {
    bytes.push((left % 128) | (left >= 128 ? 0x80 : 0));
  }
  return Uint8Array.from(bytes);
}
