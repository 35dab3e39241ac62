import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { checkFolders } from "./check_folders.ts";

Deno.test("Folders that cannot be used are said at start", async () => {
  const root = await Deno.makeTempDir({ prefix: "drtune-trainer-" });
  try {
    const [models, runs, file] = ["models", "a/runs", "file"].map((name) => join(root, name));
    assert.ok(models && runs && file);
    await assert.rejects(
      checkFolders({ models, runs }),
      new Error(`Folder of models ${models} is not there`),
    );
    await mkdir(models);
    await checkFolders({ models, runs });
    assert.deepEqual(await readdir(runs), []);
    await writeFile(file, "");
    for (const wrong of [file, join(file, "runs")]) {
      await assert.rejects(
        checkFolders({ models, runs: wrong }),
        /^Error: Folder of runs .*file(\/runs)? cannot be written: E(EXIST|NOTDIR)/,
      );
    }
    await assert.rejects(checkFolders({ models: file, runs }), /is not there$/);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
