import assert from "node:assert/strict";
import { join } from "node:path";
import { cachedSha256 } from "./cached_sha256.ts";
import { openSafetensors } from "./safetensors_file.ts";
import { writeSafetensors } from "./write_safetensors.ts";

Deno.test("a digest is remembered until the file changes, and computed again where the memory is damaged", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [path, cache] = [join(folder, "a.safetensors"), join(folder, "cache")];
    const write = (value: number) =>
      writeSafetensors(path, {
        x: { dtype: "float32", shape: [1], data: Float32Array.of(value) },
      });
    let hashed = 0;
    const digest = () =>
      cachedSha256({
        path,
        sha256: () => {
          hashed++;
          return openSafetensors(path).sha256();
        },
      }, cache);
    await write(1);
    const first = await digest();
    assert.equal(first, await openSafetensors(path).sha256());
    assert.equal(await digest(), first);
    assert.equal(hashed, 1);
    await write(2);
    assert.notEqual(await digest(), first);
    assert.equal(hashed, 2);
    for (const { name } of Deno.readDirSync(join(cache, "sha256"))) {
      await Deno.writeTextFile(join(cache, "sha256", name), first.slice(1));
    }
    assert.equal(await digest(), await openSafetensors(path).sha256());
    assert.equal(hashed, 3);
    // A file stands where the folder would: nothing can be remembered.
    assert.equal(await cachedSha256(openSafetensors(path), path), await digest());
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
