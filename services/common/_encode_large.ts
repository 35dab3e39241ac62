import {
  type DescField,
  type DescMessage,
  type Message,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { isReflectMessage, reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";

/** Bytes copied in one go: a fraction of a millisecond where the memory is known already, one where it is new. */
const PIECE = 2 ** 19;

/** Whether messages of this type may hold bytes, themselves or in messages they hold. */
export function holdsBytes(schema: DescMessage, around: readonly DescMessage[] = []): boolean {
  if (around.includes(schema)) return false;
  return schema.fields.some((field) => isLarge(field, [...around, schema]));
}

/** The encoding of a message, made piece by piece: copying large images in one go would keep other callers waiting. */
export async function encodeLarge(schema: DescMessage, message: Message): Promise<Buffer> {
  const parts = partsOf(reflect(schema, message));
  const encoded = Buffer.allocUnsafe(totalLength(parts));
  let at = 0;
  let rest = PIECE;
  for (const part of parts) {
    for (let from = 0; from < part.length;) {
      const piece = part.subarray(from, from + rest);
      encoded.set(piece, at);
      from += piece.length;
      at += piece.length;
      rest -= piece.length;
      if (rest > 0) continue;
      rest = PIECE;
      await setImmediate();
    }
  }
  return encoded;
}

/** What the encoding consists of, in order; bytes as they are. Fields may come in any order, those with bytes go last. */
function partsOf(message: ReflectMessage): readonly Uint8Array[] {
  const others = reflect(message.desc);
  const parts: Uint8Array[] = [];
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    const value: unknown = message.get(field);
    if (!isLarge(field)) {
      others.set(field, value);
      continue;
    }
    const values = field.fieldKind === "list" ? message.get(field) : [value];
    for (const one of values) {
      const inner = isReflectMessage(one) ? partsOf(one) : one instanceof Uint8Array ? [one] : [];
      const head = new BinaryWriter().tag(field.number, WireType.LengthDelimited);
      parts.push(head.uint32(totalLength(inner)).finish(), ...inner);
    }
  }
  return [toBinary(message.desc, others.message), ...parts];
}

/** Whether a field holds bytes, or messages that may; maps are taken to be small. */
function isLarge(field: DescField, around: readonly DescMessage[] = []): boolean {
  if (field.fieldKind === "map") return false;
  return field.scalar === ScalarType.BYTES ||
    (field.message !== undefined && holdsBytes(field.message, around));
}

function totalLength(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
