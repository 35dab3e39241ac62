import assert from "node:assert/strict";
import { join } from "node:path";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { repositoryPath } from "../models/mod.ts";
import { withFolder } from "../support/mod.ts";
import { copyBut } from "./_draw.ts";

const TINY = repositoryPath("tests/golden/tiny-sd");

Deno.test("a pipeline's part of .bin files alone is read as its safetensors", () =>
  withFolder(async (cacheDir) => {
    const model = await copyBut(TINY, "text_encoder");
    await Deno.symlink(repositoryPath("tests/published/bin_only"), join(model, "text_encoder"));
    const [expected, actual] = [await readPipeline(TINY), await readPipeline(model, { cacheDir })];
    const [mine, theirs] = [actual.textEncoders[0], expected.textEncoders[0]];
    assert.ok(mine && theirs);
    for (const name of mine.weights.names()) {
      const other: string = name.startsWith("text_model.") && !theirs.weights.has(name)
        ? name.slice("text_model.".length)
        : name;
      assert.deepEqual(await mine.weights.read(name), await theirs.weights.read(other), name);
    }
    // Messages name the user's file.
    assert.throws(() => mine.weights.get("none"), /pytorch_model\.bin: has no weight "none"/);
    assert.match(
      mine.weights.get(mine.weights.names()[0] ?? "").source ?? "",
      /pytorch_model\.bin$/,
    );
    await Deno.remove(model, { recursive: true });
  }));
