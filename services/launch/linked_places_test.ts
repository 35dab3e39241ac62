import assert from "node:assert/strict";
import { join } from "node:path";
import { withFolder } from "../../tests/support/mod.ts";
import { linkedPlaces } from "./linked_places.ts";

Deno.test("places behind links are found: a linked folder, blobs of a hub, and no others", () =>
  withFolder(async (temporary) => {
    const root = await Deno.realPath(temporary);
    const at = (...parts: string[]) => join(root, ...parts);
    await Deno.mkdir(at("hub", "blobs"), { recursive: true });
    await Deno.mkdir(at("hub", "snapshot", "unet"), { recursive: true });
    await Deno.mkdir(at("models", "plain"), { recursive: true });
    for (const name of ["a", "b"]) await Deno.writeTextFile(at("hub", "blobs", name), name);
    await Deno.symlink("../blobs/a", at("hub", "snapshot", "model.safetensors"));
    await Deno.symlink("../../blobs/b", at("hub", "snapshot", "unet", "model.safetensors"));
    await Deno.symlink(at("hub", "snapshot"), at("models", "clip"));
    await Deno.symlink(at("nowhere"), at("models", "lost"));
    await Deno.symlink(at("models"), at("models", "plain", "circle"));
    const [snapshot, a, b] = [
      at("hub", "snapshot"),
      at("hub", "blobs", "a"),
      at("hub", "blobs", "b"),
    ];
    assert.deepEqual(linkedPlaces(at("models", "clip"), { depth: 0 }), [snapshot, a]);
    assert.deepEqual(linkedPlaces(at("models"), { depth: 0 }), [snapshot]);
    assert.deepEqual(
      new Set(linkedPlaces(at("models"), { depth: 3 })),
      new Set([snapshot, a, b, at("models")]),
    );
    assert.deepEqual(linkedPlaces(at("hub", "blobs"), { depth: 3 }), []);
    assert.deepEqual(linkedPlaces(at("nowhere"), { depth: 3 }), []);
  }));
