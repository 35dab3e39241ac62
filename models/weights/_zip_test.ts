import assert from "node:assert/strict";
import { le, zipFile, type ZipPart } from "./_test_bytes.ts";
import { WeightFile } from "./_weight_file.ts";
import { WeightsError } from "./weights_error.ts";
import { readZipDirectory } from "./_zip.ts";

function read(bytes: Uint8Array) {
  const path = Deno.makeTempFileSync();
  try {
    Deno.writeFileSync(path, bytes);
    return readZipDirectory(new WeightFile(path));
  } finally {
    Deno.removeSync(path);
  }
}

const A: ZipPart = { name: "a", data: "12345" };
const B: ZipPart = { name: "b", data: "678" };

Deno.test("zip entries are found where their data lies, behind a comment or none", () => {
  const bytes = zipFile([A, B]);
  const expected = new Map([
    ["a", { position: 31, length: 5, method: 0 }],
    ["b", { position: 67, length: 3, method: 0 }],
  ]);
  assert.deepEqual(read(bytes), expected);
  assert.equal(new TextDecoder().decode(bytes.subarray(67, 70)), "678");
  const comment = new Uint8Array([...bytes, 9, 9, 9]);
  comment[bytes.length - 2] = 3;
  assert.deepEqual(read(comment), expected);
});

Deno.test("zip64 sizes, offsets and end record are read", () => {
  const bytes = zipFile([A]);
  const directory = bytes.slice(36, -22);
  // All three 32-bit fields are full, and an extra field holds their 64-bit values.
  for (const field of [20, 24, 42]) directory.fill(0xff, field, field + 4);
  directory[30] = 28;
  const flat = [le(1, 2), le(24, 2), le(5, 8), le(5, 8), le(0, 8)].flat(2).map(Number);
  const size = directory.length + flat.length;
  const at = 36 + size;
  const record = ["PK\x06\x06".split("").map((c) => c.charCodeAt(0)), le(44, 8), le(0, 12)];
  const end64 = [...record, le(1, 8), le(1, 8), le(size, 8), le(36, 8)].flat(2).map(Number);
  const locator = [80, 75, 6, 7, le(0, 4), le(at, 8), le(1, 4)].flat(2).map(Number);
  const end = bytes.slice(-22);
  end.fill(0xff, 8, 20);
  const wide = Uint8Array.from([
    ...[...bytes.subarray(0, 36), ...directory, ...flat, ...end64, ...locator, ...end],
  ]);
  assert.deepEqual(read(wide), new Map([["a", { position: 31, length: 5, method: 0 }]]));
});

for (
  const [name, bytes, message] of [
    ["nothing", new Uint8Array(), /has no end record/],
    ["no archive", new Uint8Array(100), /has no end record/],
    ["a truncated archive", zipFile([A]).subarray(0, -1), /has no end record/],
    ["an encrypted entry", zipFile([{ ...A, flags: 1 }]), /entry "a" is encrypted/],
    [
      "two sizes of a stored entry",
      zipFile([{ ...A, size: 50 }]),
      /"a" is stored in 5 bytes, expected 50/,
    ],
    [
      "an entry longer than the file",
      zipFile([{ ...A, size: 5000, stored: 5000 }]),
      /"a" ends at byte 5031, beyond byte 36/,
    ],
    [
      "overlapping entries",
      zipFile([{ ...A, size: 6, stored: 6 }, B]),
      /"a" ends at byte 37, beyond byte 36/,
    ],
    [
      "entries that share their data",
      zipFile([A, { ...A, name: "b", headerAt: 0 }]),
      /"a" ends at byte 36, beyond byte 0/,
    ],
    ["one name twice", zipFile([A, { ...B, name: "a" }]), /holds entry "a" twice/],
    [
      "an entry behind the data",
      zipFile([{ ...A, headerAt: 30 }]),
      /"a" begins at byte 30, beyond the data/,
    ],
    ["an entry without header", zipFile([{ ...A, headerAt: 1 }]), /"a" lacks its header/],
    ["a wrong count", zipFile([A], { count: 2 }), /has 1 entries, expected 2/],
    [
      "a directory beyond its end",
      zipFile([A], { size: 1000 }),
      /directory ends at byte 1036, expected before/,
    ],
    [
      "a huge directory",
      zipFile([A], { size: 2 ** 31 }),
      /directory has 2147483648 bytes, expected at most/,
    ],
    [
      "a directory elsewhere",
      zipFile([A], { at: 0, size: 36 }),
      /directory is damaged at its byte 0/,
    ],
    [
      "zip64 sizes that are missing",
      zipFile([{ ...A, size: 2 ** 32 - 1, stored: 2 ** 32 - 1 }]),
      /"a" lacks its zip64 sizes/,
    ],
  ] as const
) {
  Deno.test(`zip refuses: ${name}`, () => {
    assert.throws(() => read(bytes), (error) => {
      assert.ok(error instanceof WeightsError);
      assert.match(error.message, message);
      return true;
    });
  });
}
