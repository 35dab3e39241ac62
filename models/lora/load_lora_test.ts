import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeSafetensors } from "../weights/mod.ts";
import {
  type AdaptableLayer,
  initialLora,
  type LoadedLora,
  loadLora,
  LoraError,
  loraShapes,
  toDiffusersLora,
  trainableLora,
} from "./mod.ts";
import { withFolder } from "../../tests/support/mod.ts";

const layers: AdaptableLayer[] = ["to_q", "to_k"].map((end) => ({
  name: `mid_block.attentions.0.transformer_blocks.0.attn1.${end}`,
  shape: [6, 4],
  aliases: [{ name: `middle_block.1.transformer_blocks.0.attn1.${end}` }],
}));
const parts = [{ name: "unet", layers }] as const;
const lora = { rank: 2, alpha: 3, targets: ["to_q"] };
const tensors = initialLora(loraShapes(layers, lora), 1);

const trained = ({ adapters, path }: LoadedLora) => trainableLora(adapters, { layers, path });

Deno.test("a file and its folder are the same adapter, with digest and notes", () =>
  withFolder(async (folder) => {
    const path = join(folder, "pytorch_lora_weights.safetensors");
    const file = toDiffusersLora({ ...lora, tensors }, { "drtune.steps": "40" });
    await writeSafetensors(path, file.tensors, file.metadata);
    const loaded = await loadLora(path, parts);
    assert.deepEqual(trained(loaded), { ...lora, rankPattern: {}, alphaPattern: {}, tensors });
    assert.equal(loaded.metadata["drtune.steps"], "40");
    assert.equal(loaded.sha256, createHash("sha256").update(await readFile(path)).digest("hex"));
    assert.deepEqual(await loadLora(folder, parts), loaded);
    await writeSafetensors(join(folder, "adapter_model.safetensors"), {});
    await assert.rejects(
      loadLora(folder, parts),
      /is a folder with pytorch_lora.* and adapter_model.*, expected one of them/,
    );
  }));

Deno.test("PEFT's folder has its scale beside the file, and what is no plain product is refused", () =>
  withFolder(async (folder) => {
    const named = Object.fromEntries(
      Object.entries(tensors).map(([name, t]) => [`base_model.model.${name}`, t]),
    );
    await writeSafetensors(join(folder, "adapter_model.safetensors"), named);
    const write = (fields: object) =>
      writeFile(
        join(folder, "adapter_config.json"),
        JSON.stringify({ peft_type: "LORA", r: 2, lora_alpha: 3, ...fields }),
      );
    await write({ use_dora: false, rank_pattern: {}, bias: "none", target_modules: ["to_q"] });
    assert.deepEqual(trained(await loadLora(folder, parts)).alpha, 3);
    const refused = async (fields: object, message: RegExp) => {
      await write(fields);
      await assert.rejects(
        loadLora(folder, parts),
        (e) => e instanceof LoraError && message.test(e.message),
      );
    };
    await refused(
      { rank_pattern: { to_q: 8 } },
      /rank of ".*to_q" is 2, expected 8 as the adapter's/,
    );
    await refused(
      { peft_type: "OFT" },
      /adapter_config\.json: "peft_type" is "OFT", expected LORA, L/,
    );
    await refused({ lora_alpha: "3" }, /"lora_alpha" is "3", expected a number/);
    await refused({ init_lora_weights: "pissa" }, /"init_lora_weights" is "pissa", expected true/);
    await refused({ bias: "lora_only" }, /"bias" is "lora_only", expected none/);
    await refused({ new_trick: 1 }, /"new_trick" is 1, which is not done here/);
    await refused({ alpha_pattern: { "(a+)+": 1 } }, /pattern "\(a\+\)\+" is not done here/);
    const many = (count: number, pattern: (i: number) => string) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [pattern(i), 3]));
    await refused(
      { rank_pattern: many(2, (i) => `.*a.*${i}.*c`), alpha_pattern: many(1, () => ".*a.*b.*c") },
      /has more than 64 patterns that are no names, or 8 repetitions in them/,
    );
    await refused({ rank_pattern: many(65, (i) => `(a|b)${i}`) }, /has more than 64 patterns/);
    await refused({ alpha_pattern: many(4097, (i) => `a${i}`) }, /has 4097 patterns of ranks/);
    await write({ alpha_pattern: many(4096, (i) => `a${i}`), rank_pattern: { ".*to_q": 2 } });
    assert.equal(trained(await loadLora(folder, parts)).alpha, 3);
    await writeFile(join(folder, "adapter_config.json"), "{");
    await assert.rejects(loadLora(folder, parts), /adapter_config\.json: is not valid JSON/);
    await assert.rejects(loadLora(join(folder, "none"), parts), /none: is not there/);
  }));

Deno.test("a LoRA in float8 is read exactly", () =>
  withFolder(async (folder) => {
    const path = join(folder, "lora.safetensors");
    const name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
    const header = JSON.stringify({
      [`${name}.lora_down.weight`]: { dtype: "F8_E4M3", shape: [1, 4], data_offsets: [0, 4] },
      [`${name}.lora_up.weight`]: { dtype: "F8_E5M2", shape: [6, 1], data_offsets: [4, 10] },
    });
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
    // 1, -448, the least above 0 and -1.75 in the one format, 1, -1, 57344, 2^-16, 0 and 1.5 in the other.
    const data = [0x38, 0xfe, 0x01, 0xbe, 0x3c, 0xbc, 0x7b, 0x01, 0, 0x3e];
    await writeFile(path, Uint8Array.of(...length, ...new TextEncoder().encode(header), ...data));
    const { tensors } = trained(await loadLora(path, parts));
    const module = layers[0]?.name;
    assert.deepEqual([...tensors[`${module}.lora_A.weight`]?.data ?? []], [
      1,
      -448,
      2 ** -9,
      -1.75,
    ]);
    assert.deepEqual(
      [...tensors[`${module}.lora_B.weight`]?.data ?? []],
      [1, -1, 57344, 2 ** -16, 0, 1.5],
    );
  }));
