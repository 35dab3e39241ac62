import assert from "node:assert/strict";
import { join } from "node:path";
import { float32, float64, int64, type Tensor } from "../../autodiff/mod.ts";
import {
  decodeSafetensors,
  encodeSafetensors,
  openSafetensors,
  WeightsError,
  writeSafetensors,
} from "./mod.ts";

const TESTDATA = join(import.meta.dirname ?? "", "..", "testdata");

function file(header: string | object, data = 0): Uint8Array {
  const json = new TextEncoder().encode(
    typeof header === "string" ? header : JSON.stringify(header),
  );
  const bytes = new Uint8Array(8 + json.length + data);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const f32 = (shape: unknown, ...data_offsets: number[]) => ({ dtype: "F32", shape, data_offsets });

const BAD: [name: string, bytes: Uint8Array, message: RegExp][] = [
  ["empty file", new Uint8Array(), /has 0 bytes, expected at least 8/],
  ["7 bytes", new Uint8Array(7), /has 7 bytes, expected at least 8/],
  ["header beyond file", file("{}").subarray(0, 9), /header length is 2, expected at most the 1/],
  [
    "huge header",
    new Uint8Array(16).fill(255),
    /is 18446744073709551615, expected at most 100000000/,
  ],
  ["no JSON", file("{"), /header is not valid JSON/],
  [
    "invalid UTF-8",
    file('{"?"}').map((byte) => byte === 0x3f ? 0xff : byte),
    /header is not valid JSON/,
  ],
  ["an array", file("[]"), /header is not a JSON object/],
  ["metadata number", file({ __metadata__: { a: 1 } }), /__metadata__ "a" is not a string/],
  ["metadata list", file({ __metadata__: [] }), /__metadata__ is not an object/],
  ["entry null", file({ a: null }), /tensor "a" is not described by an object/],
  [
    "unknown dtype",
    file({ a: { dtype: "F4", shape: [], data_offsets: [0, 1] } }, 1),
    /tensor "a" has dtype "F4", expected one of F64, I64, F32/,
  ],
  ["negative size", file({ a: f32([-1], 0, 4) }, 4), /"a" has shape \[-1\], expected non-negative/],
  ["fraction", file({ a: f32([1.5], 0, 6) }, 6), /"a" has shape \[1.5\]/],
  ["no shape", file({ a: f32(undefined, 0, 4) }, 4), /"a" has shape undefined/],
  ["reversed", file({ a: f32([1], 4, 0) }, 4), /data_offsets \[4,0\], expected \[begin, end\]/],
  ["one offset", file({ a: f32([1], 4) }, 4), /data_offsets \[4\], expected/],
  [
    "wrong bytes",
    file({ a: f32([2, 3], 0, 20) }, 20),
    /has 20 bytes, expected 24 for float32 \[2, 3\]/,
  ],
  [
    "overflowing shape",
    file({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4),
    /has 4 bytes, expected 4\.8/,
  ],
  [
    "overlap",
    file({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12),
    /tensor "b" overlaps the tensor before it: begins at 4, expected 8/,
  ],
  [
    "hole",
    file({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12),
    /tensor "b" leaves a hole before it: begins at 8, expected 4/,
  ],
  [
    "truncated data",
    file({ a: f32([2], 0, 8) }, 7),
    /has 7 bytes of data, expected 8: it is trunc/,
  ],
  ["trailing data", file({ a: f32([2], 0, 8) }, 9), /has 9 bytes of data, expected 8$/],
];

for (const [name, bytes, message] of BAD) {
  Deno.test(`safetensors refuses: ${name}`, async () => {
    assert.throws(() => decodeSafetensors(bytes), message);
    const path = await Deno.makeTempFile();
    await Deno.writeFile(path, bytes);
    assert.throws(() => openSafetensors(path), (error) => {
      assert.ok(error instanceof WeightsError);
      assert.equal(error.path, path);
      assert.match(error.message, message);
      return true;
    });
    await Deno.remove(path);
  });
}

Deno.test("safetensors of every dtype, written by the reference library, are read", async () => {
  const stored = openSafetensors(join(TESTDATA, "torch_dtypes.safetensors"));
  const expected: Record<string, Tensor> = {
    float64: float64([0, -1.5, 3.140625, Infinity]),
    float32: float32([0, -1.5, 3.140625, Infinity]),
    float16: { dtype: "float16", shape: [4], data: Uint16Array.of(0, 0xbe00, 0x4248, 0x7c00) },
    bfloat16: { dtype: "bfloat16", shape: [4], data: Uint16Array.of(0, 0xbfc0, 0x4049, 0x7f80) },
    int64: { dtype: "int64", shape: [3], data: BigInt64Array.of(-(2n ** 63n), 7n, 2n ** 63n - 1n) },
    int32: { dtype: "int32", shape: [3], data: Int32Array.of(-(2 ** 31), 7, 2 ** 31 - 1) },
    int16: { dtype: "int32", shape: [3], data: Int32Array.of(-32768, 7, 32767) },
    int8: { dtype: "int8", shape: [3], data: Int8Array.of(-128, 7, 127) },
    uint8: { dtype: "uint8", shape: [3], data: Uint8Array.of(0, 7, 255) },
    bool: { dtype: "bool", shape: [3], data: Uint8Array.of(1, 0, 1) },
    scalar: float32([2.5], []),
    empty: float32([], [0, 3]),
  };
  assert.deepEqual(new Set(stored.tensors.keys()), new Set(Object.keys(expected)));
  for (const [name, tensor] of Object.entries(expected)) {
    assert.deepEqual(await stored.read(name), tensor, name);
  }
  const bytes = await Deno.readFile(stored.path);
  assert.deepEqual(
    new Map(Object.entries(decodeSafetensors(bytes).tensors)),
    new Map(Object.entries(expected)),
  );

  for (const name of ["float64", "float32", "float16", "bfloat16"]) {
    // 3.140625 fits every one of them.
    assert.deepEqual(await stored.readFloat32(name), float32([0, -1.5, 3.140625, Infinity]));
  }
  await assert.rejects(
    stored.readFloat32("int8"),
    /tensor "int8" has dtype int8, expected a float/,
  );
  await assert.rejects(stored.read("nope"), /has no tensor "nope" among its 12 tensors/);
});

Deno.test("an entry's fileOffset is where its bytes are in the file, as ONNX external data wants it", async () => {
  const stored = openSafetensors(join(TESTDATA, "torch_views.safetensors"));
  const bytes = await Deno.readFile(stored.path);
  const { fileOffset, byteLength } = stored.entry("slice");
  const view = new DataView(bytes.buffer, fileOffset, byteLength);
  assert.deepEqual([0, 1, 2, 3, 4, 5].map((i) => view.getFloat32(4 * i, true)), [
    5,
    6,
    7,
    8,
    9,
    10,
  ]);
});

Deno.test("encoding gives the reference library's bytes", async () => {
  for (const name of ["torch_views", "torch_cuda", "torch_untyped"]) {
    const bytes = await Deno.readFile(join(TESTDATA, `${name}.safetensors`));
    const { tensors } = decodeSafetensors(bytes);
    const reversed = Object.fromEntries(Object.entries(tensors).reverse());
    assert.deepEqual(encodeSafetensors(reversed), bytes);
  }
});

Deno.test("encoding aligns every tensor, whatever the names and sizes", () => {
  const bytes = encodeSafetensors({
    a: { dtype: "uint8", shape: [3], data: Uint8Array.of(1, 2, 3) },
    'a\n"ü': { dtype: "float16", shape: [1], data: Uint16Array.of(4) },
    c: int64([5]),
    __proto__x: float32([6]),
  }, { z: "1", a: "ü" });
  const path = Deno.makeTempFileSync();
  Deno.writeFileSync(path, bytes);
  const stored = openSafetensors(path);
  assert.deepEqual([...stored.metadata], [["a", "ü"], ["z", "1"]]);
  const offsets = [...stored.tensors].map(([name, { fileOffset }]) => [name, fileOffset % 8]);
  assert.deepEqual(offsets, [["c", 0], ["__proto__x", 0], ['a\n"ü', 4], ["a", 6]]);
  Deno.removeSync(path);
});

Deno.test("writing replaces the file as a whole and leaves nothing beside it", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "w.safetensors");
  await writeSafetensors(path, { x: float32([1, 2, 3]) });
  const old = openSafetensors(path);
  await writeSafetensors(path, { y: float32([4], []) }, { step: "7" });
  const stored = openSafetensors(path);
  assert.deepEqual(await stored.read("y"), float32([4], []));
  assert.deepEqual([...stored.metadata], [["step", "7"]]);
  await assert.rejects(old.read("x"), /changed on disk since it was opened/);

  const wrong: Tensor = { dtype: "float32", shape: [3], data: Float32Array.of(1) };
  await assert.rejects(writeSafetensors(path, { wrong }), /"wrong" has 1 elements; shape \[3\]/);
  await assert.rejects(writeSafetensors(path, { __metadata__: float32([1]) }), /is reserved/);
  await assert.rejects(
    writeSafetensors(join(folder, "no", "w"), { x: float32([1]) }),
    /os error 2/,
  );
  assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name), ["w.safetensors"]);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a missing file, a folder and a pipe are refused without waiting", async () => {
  const folder = await Deno.makeTempDir();
  assert.throws(
    () => openSafetensors(join(folder, "no.safetensors")),
    /no.safetensors: does not exist/,
  );
  assert.throws(() => openSafetensors(folder), /is not a regular file/);
  const pipe = join(folder, "pipe");
  const made = await new Deno.Command("mkfifo", { args: [pipe] }).output();
  if (made.success) assert.throws(() => openSafetensors(pipe), /is not a regular file/);
  await Deno.remove(folder, { recursive: true });
});
