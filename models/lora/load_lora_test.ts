import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeSafetensors } from "../weights/mod.ts";
import {
  type AdaptableLayer,
  initialLora,
  loadLora,
  LoraError,
  loraShapes,
  toDiffusersLora,
} from "./mod.ts";
import { withFolder } from "../../tests/support/mod.ts";

const layers: AdaptableLayer[] = ["to_q", "to_k"].map((end) => ({
  name: `mid_block.attentions.0.transformer_blocks.0.attn1.${end}`,
  originalName: `middle_block.1.transformer_blocks.0.attn1.${end}`,
  out: 6,
  in: 4,
}));
const lora = { rank: 2, alpha: 3, targets: ["to_q"] };
const tensors = initialLora(loraShapes(layers, lora), 1);

Deno.test("a file and its folder are the same adapter, with digest and notes", () =>
  withFolder(async (folder) => {
    const path = join(folder, "pytorch_lora_weights.safetensors");
    const file = toDiffusersLora({ ...lora, tensors }, { "drtune.steps": "40" });
    await writeSafetensors(path, file.tensors, file.metadata);
    const loaded = await loadLora(path, layers);
    assert.deepEqual(loaded.lora, { ...lora, tensors });
    assert.equal(loaded.metadata["drtune.steps"], "40");
    assert.equal(loaded.sha256, createHash("sha256").update(await readFile(path)).digest("hex"));
    assert.deepEqual(await loadLora(folder, layers), loaded);
    await writeSafetensors(join(folder, "adapter_model.safetensors"), {});
    await assert.rejects(
      loadLora(folder, layers),
      /is a folder, expected one of pytorch_lora.* in it/,
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
    assert.deepEqual((await loadLora(folder, layers)).lora, { ...lora, tensors });
    const refused = async (fields: object, message: RegExp) => {
      await write(fields);
      await assert.rejects(
        loadLora(folder, layers),
        (e) => e instanceof LoraError && message.test(e.message),
      );
    };
    await refused({ use_dora: true }, /adapter_config\.json: "use_dora" is true, expected false/);
    await refused({ use_rslora: true }, /"use_rslora" is true, expected false/);
    await refused(
      { rank_pattern: { to_q: 8 } },
      /"rank_pattern" is \{"to_q":8\}, expected \{\}: one for all/,
    );
    await refused({ peft_type: "LOHA" }, /"peft_type" is "LOHA", expected "LORA"/);
    await refused({ lora_alpha: "3" }, /"lora_alpha" is "3", expected number/);
    await writeFile(join(folder, "adapter_config.json"), "{");
    await assert.rejects(loadLora(folder, layers), /adapter_config\.json: is not valid JSON/);
    await assert.rejects(loadLora(join(folder, "none"), layers), /none: is not there/);
  }));
