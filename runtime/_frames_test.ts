import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { float32, int64 } from "../autodiff/mod.ts";
import { encodeFrame, readFrame } from "./_frames.ts";

function reader(bytes: Uint8Array) {
  let at = 0;
  return (length: number) => {
    const found = new Uint8Array(bytes.subarray(at, at += length));
    return Promise.resolve(found.length === length ? found : undefined);
  };
}

const frame = {
  message: { op: "x", text: "é" },
  // The second lies at an odd offset of the stream.
  tensors: [{ dtype: "bool", shape: [3], data: Uint8Array.of(1, 0, 1) }, int64([-5], [])],
} as const;

Deno.test("a frame is read as it was written, and large tensors are not copied", async () => {
  const large = float32(new Float32Array(100_000).fill(2));
  const chunks = encodeFrame({ ...frame, tensors: [...frame.tensors, large, int64([7])] });
  assert.equal(chunks.length, 3);
  assert.equal(chunks[1]?.buffer, large.data.buffer);
  const read = await readFrame(reader(Buffer.concat(chunks)));
  assert.deepEqual(read, { ...frame, tensors: [...frame.tensors, large, int64([7])] });
});

Deno.test("a frame cut short anywhere is no frame", async () => {
  const bytes = Buffer.concat(encodeFrame(frame));
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(await readFrame(reader(bytes.subarray(0, length))), undefined);
  }
});

Deno.test("malformed and oversized frames are refused before memory is taken", async () => {
  const encoded = (header: unknown) => {
    const json = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.from("DRT1....");
    prefix.writeUInt32LE(json.length, 4);
    return Buffer.concat([prefix, json]);
  };
  const refuse = (bytes: Uint8Array, message: RegExp) =>
    assert.rejects(readFrame(reader(bytes)), { message });
  await refuse(
    Buffer.from("Warning: a library printed"),
    /^Frame starts with 'Warn', expected DRT1$/,
  );
  await refuse(Buffer.from("DRT1\xff\xff\xff\xff", "latin1"), /^Frame header has 4294967295 bytes/);
  await refuse(encoded({ message: 0, tensors: [["int8", [2 ** 20, 2 ** 20]]] }), /^Frame tensors/);
  await refuse(encoded({ message: 0, tensors: [["complex64", [1]]] }), /tensors/);
  await refuse(encoded({ message: 0, tensors: [["int8", [-1]]] }), /tensors/);
});
