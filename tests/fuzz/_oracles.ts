import {
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonValue,
  type MessageShape,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import type { Tensor } from "../../autodiff/mod.ts";
import type { SafetensorsFile } from "../../models/weights/mod.ts";
import { faultOf, readMessage } from "../../services/rpc/mod.ts";

/**
 * Reads a message and holds it against the library alone: what is read must be the same message, written and read again
 * too, and what is refused must be refused there, but for what only this reader bounds. Throws the message's fault.
 */
export function checkedMessage(schema: DescMessage, bytes: Uint8Array): void {
  const message = readMessage(schema, bytes);
  const fault = faultOf(message);
  const plain = orUndefined(() => fromBinary(schema, bytes));
  if (fault !== undefined) {
    // The library does not see a field that goes beyond the message it is in.
    const isBound = /more than|wire type|field 0|ends (beyond|within)/.test(fault.message);
    assert.ok(plain === undefined || isBound, `refused, and could be read: ${fault.message}`);
    throw fault;
  }
  assert.ok(plain !== undefined, "read, and the library refuses it");
  const written = toBinary(schema, message);
  assert.deepEqual(written, toBinary(schema, plain));
  assert.deepEqual(toBinary(schema, fromBinary(schema, written)), written);
}

/** Holds a message that a body became against the JSON of the message: it must be the same again. */
export function checkBody<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
  again: (value: JsonValue) => MessageShape<D>,
): void {
  const value = toJson(schema, message);
  const written = toBinary(schema, message);
  assert.deepEqual(toBinary(schema, fromJson(schema, value)), written);
  assert.deepEqual(toBinary(schema, again(value)), written);
}

/** Holds tensors of a safetensors file against the bytes at which its header, read anew, says that they lie. */
export async function checkSafetensors(
  file: Pick<SafetensorsFile, "tensors" | "read">,
  bytes: Uint8Array,
): Promise<void> {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const names = Object.keys(header).filter((name) => name !== "__metadata__");
  assert.deepEqual([...file.tensors.keys()].sort(), names.sort());
  for (const name of [...file.tensors.keys()].slice(0, 2)) {
    const { shape, data_offsets: [start, end] } = header[name];
    const tensor = await file.read(name);
    assert.deepEqual([...tensor.shape], shape);
    const stored = bytes.subarray(8 + length + start, 8 + length + end);
    assert.deepEqual(bytesOf(tensor), new Uint8Array(stored));
  }
}

/** A tensor has as many elements as its shape says. */
export function checkSize({ shape, data }: Tensor): void {
  assert.equal(data.length, shape.reduce((product, size) => product * size, 1));
}

/** Height and width in the header of a PNG or JPEG file; `undefined` of any other. */
export function imageSize(bytes: Uint8Array): readonly [number, number] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) === 0x89504e47) return [view.getUint32(20), view.getUint32(16)];
  if (view.getUint16(0) !== 0xffd8) return undefined;
  for (let at = 2; at + 9 < bytes.length;) {
    const [mark, kind] = [bytes[at], bytes[at + 1] ?? 0];
    // Where it is broken between its parts, readers look for the next one, each in its way.
    if (mark !== 0xff) return undefined;
    const isFrame = kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind);
    if (isFrame) return [view.getUint16(at + 5), view.getUint16(at + 7)];
    at += 2 + view.getUint16(at + 2);
  }
  return undefined;
}

function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
