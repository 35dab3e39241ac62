import assert from "node:assert/strict";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import {
  decodeSafetensors,
  openSafetensors,
  openWeights,
  readTorchFile,
  writeSafetensors,
} from "./mod.ts";

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
