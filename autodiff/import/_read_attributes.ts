import { type AttributeProto, AttributeProto_AttributeType as AttributeType } from "onnx-buf";
import { type Attribute, float, int, ints, string } from "../attributes.ts";
import { ImportError } from "../errors.ts";
import type { ForeignNode } from "./_node.ts";

/** Attributes of a node, where they have types that operators of graphs have, or are lists that conversions read. */
export function readAttributes(
  protos: readonly AttributeProto[],
): Pick<ForeignNode, "attributes" | "lists"> {
  const text = new TextDecoder();
  const attributes: Record<string, Attribute> = {};
  const floats: Record<string, readonly number[]> = {};
  const strings: Record<string, readonly string[]> = {};
  for (const a of protos) {
    switch (a.type) {
      case AttributeType.INT:
        attributes[a.name] = int(Number(a.i));
        break;
      case AttributeType.FLOAT:
        attributes[a.name] = float(a.f);
        break;
      case AttributeType.STRING:
        attributes[a.name] = string(text.decode(a.s));
        break;
      case AttributeType.INTS:
        attributes[a.name] = ints(a.ints.map(Number));
        break;
      case AttributeType.FLOATS:
        floats[a.name] = a.floats;
        break;
      case AttributeType.STRINGS:
        strings[a.name] = a.strings.map((s) => text.decode(s));
        break;
      default:
        throw new ImportError(
          `Attribute ${a.name} of type ${AttributeType[a.type]} is not supported`,
        );
    }
  }
  return { attributes, lists: { floats, strings } };
}
