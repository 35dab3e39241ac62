import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { cachedAsSafetensors, openSafetensors, readTorchFile, toFloat32 } from "./mod.ts";

const TESTDATA = join(import.meta.dirname ?? "", "..", "testdata");
const SOURCE = join(TESTDATA, "torch_nested_zip2.pt");
const LAION = join(TESTDATA, "../../../shared/data/sac+logos+ava1-l14-linearMSE.pth");

async function withFolder(action: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await action(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a torch file is converted once, under its digest, with where it came from", () =>
  withFolder(async (folder) => {
    const cache = join(folder, "new", "cache");
    const path = await cachedAsSafetensors(SOURCE, cache, { key: "state_dict" });
    const digest = new Uint8Array(
      await crypto.subtle.digest("SHA-256", await Deno.readFile(SOURCE)),
    ).toHex();
    assert.ok(basename(path).startsWith(digest));
    const stored = openSafetensors(path);
    assert.deepEqual(Object.fromEntries(stored.metadata), {
      format: "pt",
      source_key: "state_dict",
      source_name: "torch_nested_zip2.pt",
      source_sha256: digest,
    });
    const { tensors } = await readTorchFile(SOURCE, { key: "state_dict" });
    assert.equal(stored.tensors.size, tensors.size);
    for (const [name, tensor] of tensors) assert.deepEqual(await stored.read(name), tensor);

    const written = (await Deno.stat(path)).mtime?.getTime();
    const copy = join(folder, "copy.pt");
    await Deno.copyFile(SOURCE, copy);
    assert.equal(await cachedAsSafetensors(copy, cache, { key: "state_dict" }), path);
    assert.equal((await Deno.stat(path)).mtime?.getTime(), written);

    const whole = await cachedAsSafetensors(SOURCE, cache);
    assert.notEqual(whole, path);
    assert.ok(openSafetensors(whole).tensors.has("state_dict.0.weight"));
    const converted = [...Deno.readDirSync(cache)].filter(({ isFile }) => isFile);
    assert.equal(converted.length, 2);
  }));

Deno.test("halves of a torch file are kept as float32 where that is wanted", () =>
  withFolder(async (folder) => {
    const source = join(TESTDATA, "torch_dtypes_zip2.pt");
    const plain = openSafetensors(await cachedAsSafetensors(source, folder));
    const wide = openSafetensors(await cachedAsSafetensors(source, folder, { asFloat32: true }));
    const dtypes = new Set<string>();
    for (const [name, { dtype }] of plain.tensors) {
      dtypes.add(dtype);
      const tensor = await plain.read(name);
      const isHalf = dtype === "float16" || dtype === "bfloat16";
      assert.deepEqual(await wide.read(name), isHalf ? toFloat32(tensor) : tensor);
    }
    assert.ok(dtypes.has("float16") && dtypes.has("int64"));
  }));

Deno.test("a refused torch file leaves nothing in the cache; what is damaged there is made anew", () =>
  withFolder(async (folder) => {
    const refused = join(TESTDATA, "torch_refused_module.pt");
    await assert.rejects(cachedAsSafetensors(refused, folder), /Linear is refused/);
    assert.equal([...Deno.readDirSync(folder)].length, 0);
    const path = await cachedAsSafetensors(SOURCE, folder);
    await Deno.truncate(path, (await Deno.stat(path)).size - 1);
    const whole = await Deno.readFile(await cachedAsSafetensors(SOURCE, folder));
    assert.equal((await Deno.stat(path)).size, whole.length);
    openSafetensors(path);
  }));

Deno.test({
  name: "the published LAION aesthetic head, saved on a GPU, loads",
  ignore: !isFile(LAION),
  fn: () =>
    withFolder(async (folder) => {
      const stored = openSafetensors(await cachedAsSafetensors(LAION, folder));
      const shapes = [...stored.tensors].map(([name, { dtype, shape }]) => [name, dtype, shape]);
      const layers = [[0, 1024, 768], [2, 128, 1024], [4, 64, 128], [6, 16, 64], [7, 1, 16]];
      assert.deepEqual(
        new Set(shapes.map((s) => JSON.stringify(s))),
        new Set(
          layers.flatMap(([i, out, inner]) => [
            JSON.stringify([`layers.${i}.weight`, "float32", [out, inner]]),
            JSON.stringify([`layers.${i}.bias`, "float32", [out]]),
          ]),
        ),
      );
    }),
});

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
