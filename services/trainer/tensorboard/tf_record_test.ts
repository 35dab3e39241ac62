import assert from "node:assert/strict";
import { crc32c } from "./_crc32c.ts";
import { tfRecord } from "./tf_record.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("CRC-32C is that of RFC 3720, appendix B.4", () => {
  const cases: [Uint8Array, number][] = [
    [bytes("123456789"), 0xe3069283],
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    [new Uint8Array(0), 0],
  ];
  for (const [data, crc] of cases) assert.equal(crc32c(data), crc);
});

Deno.test("A record is length, its masked checksum, data, its masked checksum", () => {
  const record = tfRecord(bytes("123456789"));
  const view = new DataView(record.buffer);
  assert.equal(record.length, 8 + 4 + 9 + 4);
  assert.equal(view.getBigUint64(0, true), 9n);
  assert.deepEqual(record.subarray(12, 21), bytes("123456789"));
  // Rotated right by 15 bits and shifted by 0xa282ead8, as TensorFlow does: undone here.
  const unmasked = (masked: number) => {
    const rotated = BigInt((masked - 0xa282ead8) >>> 0);
    return Number(((rotated << 15n) | (rotated >> 17n)) & 0xffffffffn);
  };
  assert.equal(unmasked(view.getUint32(21, true)), 0xe3069283);
  assert.equal(unmasked(view.getUint32(8, true)), crc32c(record.subarray(0, 8)));
  // Written by tensorboard.summary.writer.record_writer.RecordWriter 2.20.
  assert.equal(tfRecord(bytes("hello")).toHex(), "0500000000000000eab2043e68656c6c6fbb1f1c19");
});
