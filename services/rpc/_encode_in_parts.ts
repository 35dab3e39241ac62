import {
  type DescField,
  type DescMessage,
  type Message,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { isReflectMessage, reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** Whether messages of this type may hold bytes, themselves or in messages they hold. */
export function holdsBytes(schema: DescMessage, around: readonly DescMessage[] = []): boolean {
  if (around.includes(schema)) return false;
  return schema.fields.some((field) => isLarge(field, [...around, schema]));
}

/**
 * What a message's encoding consists of, in order; its bytes as they are, not copied. Fields may come in any order, those
 * with bytes go last.
 */
export function encodeInParts(schema: DescMessage, message: Message): readonly Uint8Array[] {
  return partsOf(reflect(schema, message));
}

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

/** Bytes of all parts. */
export function totalLength(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
