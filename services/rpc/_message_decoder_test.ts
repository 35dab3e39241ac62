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

Deno.test("A large message is put together from data cut anywhere", () => {
  const messages = [framed(700_001), framed(65_531), framed(65_532), framed(0), framed(131_072)];
  const wire = Buffer.concat(messages);
  for (const size of [1000, 16_384, 65_536, 65_541, 400_000, wire.length]) {
    const decoder = new MessageDecoder(-1);
    const found: Buffer[] = [];
    for (let at = 0; at < wire.length; at += size) {
      const data = Buffer.from(wire.subarray(at, at + size));
      found.push(...decoder.write(data));
      data.fill(0xff);
    }
    assert.equal(found.length, messages.length);
    for (const [i, one] of found.entries()) assert.ok(one.equals(messages[i] ?? one), `${size}`);
  }
});

Deno.test("A large message waits for room, and what has come of it is counted", () => {
  const message = framed(100_000);
  let held = 0;
  let reserved = 0;
  const room = {
    reserve: (bytes: number) => {
      reserved += bytes;
      return false;
    },
    hold: (bytes: number) => void (held += bytes),
  };
  const decoder = new MessageDecoder(-1, { room });
  assert.deepEqual(decoder.write(Buffer.concat([framed(3), message.subarray(0, 1000)])), [
    framed(3),
  ]);
  assert.deepEqual([decoder.isWaiting, reserved, held], [true, 100_005, 0]);
  assert.deepEqual(decoder.write(message.subarray(1000, 2000)), []);
  assert.deepEqual(decoder.write(decoder.takeRest()), []);
  assert.deepEqual([decoder.isWaiting, held], [false, 1995]);
  assert.deepEqual(decoder.write(message.subarray(2000)), [message]);
  assert.deepEqual([held, decoder.isWithin], [100_000, false]);
});
