import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import { StatusError } from "./errors.ts";

/** What one request may consist of, in messages; a text or some bytes cost a quarter, a number a 32nd of it. */
const MAX_PARTS = 100_000;
const [TEXT, NUMBER] = [1 / 4, 1 / 32];

/** No message of ours is a tenth as deep. */
const MAX_DEPTH = 100;

/** Why a request cannot be read, by what stands in its place. */
const faults = new WeakMap<Message, StatusError>();

/** The fault of what `readMessage` gave; undefined for a message. */
export function faultOf(message: Message): StatusError | undefined {
  return faults.get(message);
}

/**
 * Reads a message of a stranger. What is no message, or consists of so many that reading it would keep others waiting,
 * becomes an empty one that has a fault: the library that calls this turns what is thrown into an unnamed internal error.
 */
export function readMessage(schema: DescMessage, bytes: Uint8Array): Message {
  try {
    countParts(schema, bytes);
    return fromBinary(schema, bytes);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = create(schema);
    faults.set(
      message,
      new StatusError("INVALID_ARGUMENT", `Request is not a ${schema.name}: ${reason}`, { cause }),
    );
    return message;
  }
}

/** Throws where the encoding of a message is broken or has more than `MAX_PARTS`. Allocates nothing. */
function countParts(schema: DescMessage, bytes: Uint8Array): void {
  const reader = new WireReader(bytes);
  let parts = 0;
  const count = (cost: number) => {
    parts += cost;
    if (parts > MAX_PARTS) throw new Error(`it consists of more than ${MAX_PARTS} parts`);
  };
  const walk = (fields: Fields, end: number, depth: number): void => {
    if (depth > MAX_DEPTH) throw new Error(`it is nested more than ${MAX_DEPTH} deep`);
    while (reader.at < end) {
      const tag = reader.varint(end);
      const [number, type] = [Math.floor(tag / 8), tag % 8];
      const field = fields.get(number);
      if (number === 0) throw new Error("it has a field 0");
      if (type === 2) {
        const length = reader.varint(end);
        const until = reader.at + length;
        if (until > end) throw new Error(`field ${number} ends beyond it`);
        if (field?.inner) {
          count(1);
          walk(field.inner(), until, depth + 1);
        } else if (field?.elementBytes) count(length / field.elementBytes * NUMBER);
        else count(field ? TEXT : 1);
        reader.at = until;
      } else if (type === 0) {
        reader.varint(end);
        count(field ? NUMBER : 1);
      } else if (type === 1 || type === 5) {
        reader.skip(type === 1 ? 8 : 4, end);
        count(field ? NUMBER : 1);
      } else throw new Error(`field ${number} has wire type ${type}`);
    }
  };
  walk(fieldsOf(schema), bytes.length, 0);
}

/** What a field holds: messages, a list of numbers side by side, or one value. */
interface FieldKind {
  readonly inner?: () => Fields;
  /** The least bytes of a number. */
  readonly elementBytes?: number;
}

type Fields = ReadonlyMap<number, FieldKind>;

const tables = new WeakMap<DescMessage, Fields>();

function fieldsOf(schema: DescMessage): Fields {
  let table = tables.get(schema);
  if (!table) {
    table = new Map(schema.fields.map((field) => [field.number, kindOf(field)]));
    tables.set(schema, table);
  }
  return table;
}

function kindOf(field: DescField): FieldKind {
  const { message } = field;
  const value: FieldKind = message ? { inner: () => fieldsOf(message) } : {};
  if (field.fieldKind === "map") {
    // An entry is a message of a key and a value.
    const entry: Fields = new Map([[1, {}], [2, value]]);
    return { inner: () => entry };
  }
  const isText = field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES;
  if (field.fieldKind !== "list" || message || isText) return value;
  return { elementBytes: elementBytes(field) };
}

/** The least bytes of one element of a packed list. */
function elementBytes({ scalar }: DescField): number {
  switch (scalar) {
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 8;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return 4;
    default:
      return 1;
  }
}

/** Reads the wire format without keeping anything of it. */
class WireReader {
  at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The value of a varint, of which 32 bits matter here. */
  varint(end: number): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= end) throw new Error("it ends within a field");
      const byte = this.#bytes[this.at++] ?? 0;
      if (shift < 35) value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new Error("it has a number of more than 10 bytes");
  }

  skip(bytes: number, end: number): void {
    this.at += bytes;
    if (this.at > end) throw new Error("it ends within a field");
  }
}
