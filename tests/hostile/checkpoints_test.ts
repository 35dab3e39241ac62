import assert from "node:assert/strict";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { openWeights, writeSafetensors } from "../../models/weights/mod.ts";
import { withFolder } from "../support/mod.ts";

// Single-file checkpoints and pipelines of .bin parts by somebody who means harm.

const one = float32(new Float32Array(1), [1]);
const UNET = "model.diffusion_model.";

Deno.test("hostile checkpoints are refused by name, and nothing in them is executed", () =>
  withFolder(async (folder) => {
    const options = { cacheDir: join(folder, "cache") };
    const refused = async (path: string, message: RegExp) => {
      await assert.rejects(readPipeline(path, options), (error) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, message);
        assert.ok(error.message.includes(folder) && !error.message.includes("/cache/"));
        assert.ok(error.message.length < 3000, "a message of the file's size");
        return true;
      });
    };
    const file = async (name: string, bytes: string | Uint8Array) => {
      const path = join(folder, name);
      const raw = typeof bytes === "string"
        ? Uint8Array.from(bytes, (ch) => ch.charCodeAt(0))
        : bytes;
      await Deno.writeFile(path, raw);
      return path;
    };
    const tensors = async (names: readonly string[]) => {
      const path = join(folder, "model.safetensors");
      await writeSafetensors(path, Object.fromEntries(names.map((name) => [name, one])));
      return path;
    };

    // Programs in place of weights.
    const program = "\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
    await refused(await file("a.ckpt", program), /a\.ckpt: .*global os\.system is refused/);
    await refused(
      await file("b.ckpt", "\x80\x02cnumpy\nload\nX\x04\x00\x00\x00/x/y\x85R."),
      /global numpy\.load is refused/,
    );
    // What may stand beside tensors is dropped, not made, whatever it is given.
    await refused(
      await file(
        "b.ckpt",
        "\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\ntype\ntR)\x81.",
      ),
      /NEWOBJ makes numpy\.core\.multiarray\._reconstruct, which/,
    );
    await refused(
      await file("b.ckpt", "\x80\x02comegaconf.dictconfig\nDictConfig\n)\x81}b."),
      /lacks the magic number/,
    );
    // Eight-bit floats whose header lies about them.
    const header = '{"a":{"dtype":"F8_E4M3","shape":[4503599627370496,4096],"data_offsets":[0,4]}}';
    const length = String.fromCharCode(header.length) + "\x00".repeat(7);
    await refused(
      await file("f.safetensors", `${length}${header}\x00\x00\x00\x00`),
      /"a" has 4 bytes, expected \d+ for float8_e4m3fn/,
    );
    await refused(await file("c.ckpt", "PK\x03\x04 no archive"), /c\.ckpt: /);
    await refused(await file("d.safetensors", new Uint8Array(8).fill(0xff)), /header length is/);
    await refused(await file("e.safetensors", ""), /e\.safetensors: has 0 bytes/);

    // Many keys, and keys that are long or name blocks by the billion.
    const blocks = Array.from(
      { length: 50_000 },
      (_, i) => `${UNET}input_blocks.${i}.0.in_layers.2.x`,
    );
    const some = [
      `${UNET}input_blocks.0.0.weight`,
      "cond_stage_model.transformer.x",
      "first_stage_model.decoder.x",
    ];
    await refused(await tensors([...some, ...blocks]), /model\.safetensors: /);
    await refused(
      await tensors([...some, `${UNET}input_blocks.99999999999.0.x`]),
      /model\.safetensors: /,
    );
    await refused(await tensors(["x".repeat(1_000_000)]), /is no model/);
    await refused(
      await tensors([...some, `${UNET}output_blocks.9999.1.transformer_blocks.9999.x`]),
      /has no weight/,
    );

    // An index of shards that lie elsewhere.
    await Deno.mkdir(join(folder, "unet"));
    const index = join(folder, "unet", "diffusion_pytorch_model.bin.index.json");
    for (const shard of ["../../x.bin", "/etc/passwd", "x.sh", "a/b.bin"]) {
      await Deno.writeTextFile(index, JSON.stringify({ weight_map: { a: shard } }));
      await assert.rejects(openWeights(join(folder, "unet"), options), /names shard .*plain name/);
    }
  }));
