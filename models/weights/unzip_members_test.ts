import assert from "node:assert/strict";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import { withFolder } from "../../tests/support/mod.ts";
import { zipFile } from "./_test_bytes.ts";
import { unzipMembers } from "./unzip_members.ts";
import { WeightsError } from "./weights_error.ts";

const TEXT = new TextEncoder().encode("a fox, and books ".repeat(500));

Deno.test("Entries that are wanted are unpacked, stored or deflated; damaged ones leave nothing", () =>
  withFolder(async (folder) => {
    const archive = join(folder, "a.zip");
    const pack = (deflated: Uint8Array, method = 8) =>
      Deno.writeFile(
        archive,
        zipFile([
          { name: "x/deflated.so", data: deflated, method },
          { name: "x/stored.so", data: TEXT },
          { name: "x/unwanted", data: "no" },
        ]),
      );
    const names = () => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    const unpack = () =>
      unzipMembers(
        archive,
        (name) => name.endsWith(".so") ? join(folder, name.slice(2)) : undefined,
      );

    await pack(deflateRawSync(TEXT));
    assert.deepEqual((await unpack()).length, 2);
    assert.deepEqual(names(), ["a.zip", "deflated.so", "stored.so"]);
    assert.deepEqual(await Deno.readFile(join(folder, "deflated.so")), TEXT);
    assert.deepEqual(await Deno.readFile(join(folder, "stored.so")), TEXT);

    await pack(deflateRawSync(TEXT).map((b, i) => i === 30 ? b ^ 0xff : b));
    await assert.rejects(unpack(), (error) => {
      assert.ok(error instanceof WeightsError);
      assert.match(error.message, /a\.zip: cannot be unpacked: x\/deflated\.so is damaged$/);
      return true;
    });
    assert.deepEqual(names(), ["a.zip", "deflated.so", "stored.so"]);
    await pack(TEXT, 12);
    await assert.rejects(unpack(), /compressed by method 12, expected 0 or 8/);
  }));
