import assert from "node:assert/strict";
import { readdir, readFile, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { EmbeddingCache } from "./_embedding_cache.ts";

/** 400 bytes. */
const tensors = (value: number) => ({
  states: float32(new Float32Array(100).fill(value), [1, 100]),
});

Deno.test("what is put is there for another process, bit for bit, and damaged files are none", () =>
  withFolder(async (folder) => {
    const cache = new EmbeddingCache({ folder });
    assert.equal(await cache.get("a"), undefined);
    await cache.put("a", tensors(0.1));
    assert.deepEqual(await new EmbeddingCache({ folder }).get("a"), tensors(0.1));
    await truncate(join(folder, "a.safetensors"), 100);
    const again = new EmbeddingCache({ folder });
    assert.equal(await again.get("a"), undefined);
    await again.put("a", tensors(0.2));
    assert.deepEqual(await new EmbeddingCache({ folder }).get("a"), tensors(0.2));
  }));

Deno.test("a file with a flipped bit is none: in the data, and in a name", () =>
  withFolder(async (folder) => {
    const file = join(folder, "a.safetensors");
    await new EmbeddingCache({ folder }).put("a", tensors(0.1));
    const whole = await readFile(file);
    for (const at of [whole.length - 1, whole.indexOf("states")]) {
      const flipped = Uint8Array.from(whole, (byte, i) => i === at ? byte ^ 1 : byte);
      await writeFile(file, flipped);
      assert.equal(await new EmbeddingCache({ folder }).get("a"), undefined);
    }
    await writeFile(file, whole);
    assert.deepEqual(await new EmbeddingCache({ folder }).get("a"), tensors(0.1));
  }));

Deno.test("memory holds what was used last, and the latest whatever its size", async () => {
  const cache = new EmbeddingCache({ memoryBytes: 1000 });
  await cache.put("a", tensors(1));
  await cache.put("b", tensors(2));
  await cache.get("a");
  await cache.put("c", tensors(3));
  const values = [];
  for (const key of ["a", "b", "c"]) values.push((await cache.get(key))?.states?.data[0]);
  assert.deepEqual(values, [1, undefined, 3]);
  const small = new EmbeddingCache({ memoryBytes: 10 });
  await small.put("a", tensors(1));
  assert.deepEqual(await small.get("a"), tensors(1));
});

Deno.test("files unused for longest go when there are too many bytes, and a disk that refuses is no fault", () =>
  withFolder(async (folder) => {
    const cache = new EmbeddingCache({ folder, memoryBytes: 0, diskBytes: 2000 });
    for (const [i, key] of ["a", "b", "c"].entries()) {
      await cache.put(key, tensors(i));
      await utimes(join(folder, `${key}.safetensors`), i, i);
    }
    assert.deepEqual(await cache.get("a"), tensors(0));
    await cache.put("d", tensors(3));
    assert.deepEqual(
      (await readdir(folder)).sort(),
      ["a", "c", "d"].map((k) => `${k}.safetensors`),
    );
    const nowhere = new EmbeddingCache({ folder: join(folder, "a.safetensors", "under a file") });
    await nowhere.put("e", tensors(4));
    assert.deepEqual(await nowhere.get("e"), tensors(4));
  }));
