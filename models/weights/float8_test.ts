import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { float32, type TensorOf } from "../../autodiff/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import {
  decodeSafetensors,
  openSafetensors,
  openWeights,
  readTorchFile,
  writeSafetensors,
} from "./mod.ts";
import { OPCODES as O } from "./_pickle_opcodes.ts";
import { bytesOf, le, legacyFile, tensor, text } from "./_test_bytes.ts";

// Every value of both formats, and scaled weights, with what torch makes of them: make_float8.py.

const TESTDATA = join(import.meta.dirname ?? "", "..", "testdata");
const narrow = join(TESTDATA, "float8.safetensors");
const wide = openSafetensors(join(TESTDATA, "float8_wide.safetensors"));

/** Bits are the same, but for the payload and the sign of what is no number. */
function assertSame(found: unknown, expected: unknown, name: string): void {
  const plain = (value: unknown) =>
    JSON.parse(
      JSON.stringify(value, (_, v) =>
        v instanceof Uint16Array
          ? Array.from(v, (bits) =>
            (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0 ? "NaN" : bits)
          : ArrayBuffer.isView(v)
          ? Object.values(v)
          : v),
    );
  assert.deepEqual(plain(found), plain(expected), name);
}

Deno.test("weights in float8 are opened as what torch makes of them, scales multiplied in", () =>
  withFolder(async (cacheDir) => {
    const source = await openWeights(narrow, { cacheDir });
    assert.deepEqual(new Set(source.names()), new Set(wide.tensors.keys()));
    for (const name of source.names()) {
      assertSame(await source.read(name), await wide.read(name), name);
    }
    assert.equal(source.path, narrow);
    assert.equal(await source.digest(), await openSafetensors(narrow).sha256());
    const float = await openWeights(narrow, { cacheDir, asFloat32: true });
    assert.equal(float.get("e4m3fn").dtype, "float32");
    await assert.rejects(
      openWeights(narrow),
      /has weights in float8; .* cacheDir to convert it in/,
    );
  }));

Deno.test("a PyTorch file of float8 is read too", async () => {
  const { tensors } = await readTorchFile(join(TESTDATA, "float8.pt"));
  assert.deepEqual([...tensors.keys()].sort(), ["beside", "e4m3fn", "e5m2"]);
  for (const [name, tensor] of tensors) assertSame(tensor, await wide.read(name), name);
});

Deno.test("float8 is float16 in memory too", async () => {
  const { tensors } = decodeSafetensors(await Deno.readFile(narrow));
  for (const name of ["e4m3fn", "e5m2"]) {
    assertSame(tensors[name], await wide.read(name), name);
  }
});

Deno.test("shards of which one is in float8 are opened together", () =>
  withFolder(async (folder) => {
    await Deno.copyFile(narrow, join(folder, "a.safetensors"));
    await writeSafetensors(join(folder, "b.safetensors"), { other: float32([1, 2], [2]) });
    const narrowNames = [...openSafetensors(narrow).tensors.keys()];
    const weight_map = {
      ...Object.fromEntries(narrowNames.map((name) => [name, "a.safetensors"])),
      other: "b.safetensors",
    };
    const index = join(folder, "model.safetensors.index.json");
    await Deno.writeTextFile(index, JSON.stringify({ weight_map }));
    const source = await openWeights(index, { cacheDir: join(folder, "cache") });
    assert.deepEqual(new Set(source.names()), new Set([...wide.tensors.keys(), "other"]));
    assertSame(await source.read("rows.weight"), await wide.read("rows.weight"), "rows");
  }));

/** A safetensors file of the weights [2, 1.5] in float8, in one row each. */
function oneInFloat8(): Uint8Array {
  const entry = { dtype: "F8_E4M3", shape: [2, 1], data_offsets: [0, 2] };
  const header = JSON.stringify({ "x.weight": entry });
  return bytesOf(le(header.length, 8), header, 0x40, 0x3c);
}

/** Shards as they are cut in the order of names: the scale in the first, its weight in the second. */
async function writeShards(folder: string, scale: TensorOf<"float32">): Promise<string> {
  await writeSafetensors(join(folder, "1.safetensors"), { "x.scale_weight": scale });
  await Deno.writeFile(join(folder, "2.safetensors"), oneInFloat8());
  const index = join(folder, "model.safetensors.index.json");
  const weight_map = { "x.scale_weight": "1.safetensors", "x.weight": "2.safetensors" };
  await Deno.writeTextFile(index, JSON.stringify({ weight_map }));
  return index;
}

Deno.test("a scale in another shard than its weight is multiplied in, and another one makes another copy", () =>
  withFolder(async (folder) => {
    const cacheDir = join(folder, "cache");
    for (const scale of [float32([3]), float32([0.5]), float32([10, 100])]) {
      const source = await openWeights(await writeShards(folder, scale), { cacheDir });
      assert.deepEqual(source.names(), ["x.weight"]);
      const [first = NaN, second = first] = scale.data;
      assert.deepEqual(await source.read("x.weight"), float32([2 * first, 1.5 * second], [2, 1]));
    }
  }));

Deno.test("a scale in another shard is refused by that shard's name where its shape does not fit", () =>
  withFolder(async (folder) => {
    await assert.rejects(
      openWeights(await writeShards(folder, float32([1, 2, 3])), { cacheDir: folder }),
      /1\.safetensors: "x\.scale_weight" has shape \[3\], expected one number or one for each of 2/,
    );
  }));

Deno.test("the digest of shards in float8 is that of their files, whatever they are converted to", () =>
  withFolder(async (folder) => {
    const index = await writeShards(folder, float32([3]));
    const digests: string[] = [];
    for (const name of ["1.safetensors", "2.safetensors"]) {
      digests.push(`${await openSafetensors(join(folder, name)).sha256()}\n`);
    }
    const expected = createHash("sha256").update(digests.join("")).digest("hex");
    for (const asFloat32 of [false, true]) {
      const source = await openWeights(index, { cacheDir: join(folder, "cache"), asFloat32 });
      assert.equal(await source.digest(), expected);
    }
  }));

Deno.test("scales in a PyTorch file are multiplied in too", () =>
  withFolder(async (cacheDir) => {
    const source = await openWeights(join(TESTDATA, "float8_scaled.pt"), { cacheDir });
    assert.deepEqual(
      new Set(source.names()),
      new Set(["one.weight", "rows.weight", "half.weight"]),
    );
    for (const name of source.names()) {
      assertSame(await source.read(name), await wide.read(name), name);
    }
  }));

Deno.test({
  name: "weights that would have to be converted where nothing may be written say where",
  permissions: { read: true, write: false, sys: true },
  fn: () =>
    assert.rejects(
      openWeights(narrow, { cacheDir: "/models/.cache/weights" }),
      /float8\.safetensors: has to be converted, and \/models\/\.cache\/weights cannot be written .*volume/,
    ),
});

for (
  const [name, how] of [
    ["a.weight.quant_state.bitsandbytes__nf4", /quantized by bitsandbytes/],
    ["a.SCB", /quantized by bitsandbytes/],
    ["a.qweight", /quantized by GPTQ, AWQ or SVDQuant/],
    ["a.weight._data", /quantized by optimum-quanto/],
    ["a.weight_scale_inv", /a scale for each block of a weight/],
    ["a.weight_scale", /a scale in other dtypes than float8/],
  ] as const
) {
  Deno.test(`weights with "${name}" are refused by what quantized them`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "model.safetensors");
      const a = float32([1, 2], [2]);
      await writeSafetensors(path, { "a.weight": a, [name]: a });
      await assert.rejects(openWeights(path, { cacheDir: folder }), how);
    }));
}

Deno.test("weights of a PyTorch file are refused by what quantized them, also in one shard of several", () =>
  withFolder(async (folder) => {
    const dict = (name: string) => [O.EMPTY_DICT, text(name), tensor(2), O.SETITEM];
    const [whole, first, second] = ["pytorch_model.bin", "1.bin", "2.bin"];
    await Deno.writeFile(
      join(folder, whole),
      legacyFile([dict("a.weight"), text("a.SCB"), tensor(2), O.SETITEM], 2),
    );
    const expected = /holds "a\.SCB", as of weights quantized by bitsandbytes/;
    await assert.rejects(openWeights(folder, { cacheDir: folder }), expected);
    await Deno.writeFile(join(folder, first), legacyFile(dict("a.weight"), 2));
    await Deno.writeFile(join(folder, second), legacyFile(dict("a.SCB"), 2));
    const index = join(folder, "pytorch_model.bin.index.json");
    const weight_map = { "a.weight": first, "a.SCB": second };
    await Deno.writeTextFile(index, JSON.stringify({ weight_map }));
    await assert.rejects(openWeights(index, { cacheDir: folder }), expected);
  }));

Deno.test("a scale of neither one number nor one for each row is refused", () =>
  withFolder(async (folder) => {
    const path = join(folder, "model.safetensors");
    const bytes = await Deno.readFile(narrow);
    // The same file, its scale of five rows named as that of a weight of four.
    const text = new TextDecoder("latin1").decode(bytes)
      .replace('"one.scale_weight"', '"xxx.scale_input" ')
      .replace('"rows.weight_scale"', ' "one.weight_scale"');
    await Deno.writeFile(path, Uint8Array.from(text, (c) => c.charCodeAt(0)));
    await assert.rejects(
      openWeights(path, { cacheDir: folder }),
      /"one.weight_scale" has shape \[5,1\], expected one/,
    );
  }));
