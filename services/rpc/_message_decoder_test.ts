import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { MessageDecoder } from "./_message_decoder.ts";

/** A message as it comes: flag, length, bytes. */
function framed(length: number): Buffer {
  const message = Buffer.from(Uint8Array.from({ length: 5 + length }, (_, i) => i * 31 % 251));
  message[0] = 0;
  message.writeUInt32BE(length, 1);
  return message;
}

Deno.test("Messages are put together from data cut anywhere", () => {
  const messages = [framed(0), framed(3), framed(70), framed(0), framed(11)];
  const wire = Buffer.concat(messages);
  for (let size = 1; size <= wire.length; size++) {
    const decoder = new MessageDecoder(70);
    const found: Buffer[] = [];
    for (let at = 0; at < wire.length; at += size) {
      // What comes is only lent.
      const data = Buffer.from(wire.subarray(at, at + size));
      found.push(...decoder.write(data));
      data.fill(0xff);
    }
    assert.deepEqual(found, messages, `in pieces of ${size}`);
  }
});

Deno.test("A message beyond the limit is refused by its head", () => {
  const decoder = new MessageDecoder(70);
  assert.throws(
    () => decoder.write(framed(71).subarray(0, 5)),
    /Received message larger than max \(71 vs 70\)/,
  );
  assert.equal(new MessageDecoder(-1).write(framed(71)).length, 1);
});
