import assert from "node:assert/strict";
import type { Tensor } from "../../autodiff/mod.ts";
import {
  assertClose,
  readTensors,
  repositoryPath,
  runOnce,
  withEngine,
} from "../../tests/models/mod.ts";
import { parseUNetConfig, unetAdaptableLayers, unetGraph } from "../diffusers/mod.ts";
import { float32ToFloat16, openSafetensors, openWeights } from "../weights/mod.ts";
import { initialLora, loraShapes } from "./adapter.ts";
import { LoraError } from "./lora_error.ts";
import { fromLoraFile, type LoraFile, toDiffusersLora, toKohyaLora } from "./lora_file.ts";

const UNET = repositoryPath("tests/golden/models/unet_no_middle");
const FILES = "tests/golden/models/lora_files";

const config = parseUNetConfig(JSON.parse(Deno.readTextFileSync(`${UNET}/config.json`)), UNET);
const layers = unetAdaptableLayers(config);

function readFile(name: string): LoraFile {
  const { metadata } = openSafetensors(repositoryPath(`${FILES}/${name}`));
  return { tensors: readTensors(`${FILES}/${name}`), metadata: Object.fromEntries(metadata) };
}

/** An adapter of our own making, with no zeros in it. */
function sample(targets: readonly string[], alpha = 6) {
  const shapes = loraShapes(layers, { rank: 3, alpha, targets });
  const tensors = Object.fromEntries(
    Object.entries(initialLora(shapes, 1)).map(([name, t]) => [
      name,
      { ...t, data: t.data.map((v, i) => v + Math.cos(i)) },
    ]),
  );
  return { rank: 3, alpha, targets, tensors };
}

for (const name of ["diffusers", "kohya"]) {
  Deno.test(`an adapter saved by ${name} predicts what it predicts in PyTorch`, () =>
    withEngine(async (engine) => {
      const file = readFile(`${name}.safetensors`);
      const lora = fromLoraFile(file, { layers, path: name });
      assert.deepEqual([lora.rank, lora.alpha], [4, 2]);
      assert.deepEqual([...lora.targets].sort(), ["to_k", "to_out.0", "to_q", "to_v"]);
      const values = readTensors("tests/golden/models/unet_no_middle/values.safetensors");
      const { sample, timestep, encoder_hidden_states } = values;
      const expected = readTensors(`${FILES}/values.safetensors`)["expected.prediction"];
      assert.ok(sample && timestep && encoder_hidden_states && expected);
      const part = { config, weights: await openWeights(UNET) };
      const graph = unetGraph(part, { batch: 3, height: 4, width: 6, tokens: 4, lora });
      const feeds = { sample, timestep, encoder_hidden_states, ...lora.tensors };
      const { prediction } = await runOnce(engine, graph, feeds);
      assertClose(prediction, expected, { tolerance: 1e-5, what: "prediction" });
    }));

  Deno.test(`an adapter is written under the names that ${name} gives it`, () => {
    const file = readFile(`${name}.safetensors`);
    const lora = fromLoraFile(file, { layers, path: name });
    const written = name === "kohya" ? toKohyaLora(lora) : toDiffusersLora(lora);
    assert.deepEqual(Object.keys(written.tensors).sort(), Object.keys(file.tensors).sort());
    for (const [key, { shape }] of Object.entries(file.tensors)) {
      assert.deepEqual(written.tensors[key]?.shape, shape, key);
    }
    if (name !== "diffusers") return;
    assert.deepEqual(written.tensors, file.tensors);
    // Every field we write is one that diffusers writes, with the same value.
    const fields = (f: LoraFile) =>
      Object.entries(JSON.parse(f.metadata.lora_adapter_metadata ?? ""));
    const theirs = new Map(fields(file));
    for (const [key, value] of fields(written)) {
      const sorted = (v: unknown) => Array.isArray(v) ? v.toSorted() : v;
      assert.deepEqual(sorted(value), sorted(theirs.get(key)), key);
    }
  });
}

Deno.test("both schemes give back what was written, notes beside it", () => {
  for (const targets of [["to_q", "to_out.0"], ["attn2.to_k", "ff.net.2"]]) {
    const lora = sample(targets);
    for (const write of [toDiffusersLora, toKohyaLora]) {
      const file = write(lora, { "drtune.steps": "50" });
      assert.equal(file.metadata["drtune.steps"], "50");
      const back = fromLoraFile(file, { layers, path: "x" });
      assert.deepEqual(back.tensors, lora.tensors);
      assert.deepEqual([back.rank, back.alpha], [3, 6]);
      const meant = loraShapes(layers, back).map((s) => s.name);
      assert.deepEqual(meant, Object.keys(lora.tensors));
    }
  }
});

Deno.test("PEFT's own names, the original layout's and half precision are read", () => {
  const lora = sample(["to_v"]);
  const rename = (change: (name: string) => string): LoraFile => ({
    tensors: Object.fromEntries(
      Object.entries(lora.tensors).map(([name, t]): [string, Tensor] => [change(name), t]),
    ),
    metadata: {},
  });
  const peft = fromLoraFile(rename((n) => `base_model.model.${n}`), {
    layers,
    path: "adapter_model.safetensors",
    alpha: 9,
  });
  assert.deepEqual([peft.alpha, peft.tensors], [9, lora.tensors]);
  const original = new Map(layers.map((l) => [l.name, l.originalName.replaceAll(".", "_")]));
  const sgm = fromLoraFile(
    rename((n) =>
      n.replace(/^(.*)\.lora_A\.weight$/, (_, m) => `lora_unet_${original.get(m)}.lora_down.weight`)
        .replace(/^(.*)\.lora_B\.weight$/, (_, m) => `lora_unet_${original.get(m)}.lora_up.weight`)
    ),
    { layers, path: "x" },
  );
  assert.deepEqual(sgm.tensors, lora.tensors);
  const ends = (name: string, [down, up]: readonly [string, string]) =>
    name.replace(".lora_A.weight", down).replace(".lora_B.weight", up);
  for (const kind of ["lora", "lora_linear_layer"]) {
    const old = rename((n) => `unet.${ends(n, [`.${kind}.down.weight`, `.${kind}.up.weight`])}`);
    assert.deepEqual(fromLoraFile(old, { layers, path: "x" }).tensors, lora.tensors);
  }
  const processors = rename((n) =>
    `unet.${ends(n, ["_lora.down.weight", "_lora.up.weight"]).replace(".to_v", ".processor.to_v")}`
  );
  assert.deepEqual(fromLoraFile(processors, { layers, path: "x" }).tensors, lora.tensors);
  // Without any scale, alpha / rank is 1.
  assert.equal(sgm.alpha, 3);
  const [name = "", first] = Object.entries(lora.tensors)[0] ?? [];
  assert.ok(first);
  const half = { ...first, dtype: "float16", data: float32ToFloat16(first.data) } as const;
  const { tensors } = fromLoraFile(
    { tensors: { ...lora.tensors, [name]: half }, metadata: {} },
    { layers, path: "x" },
  );
  assertClose(tensors[name], first, { tolerance: 1e-3, what: name });
});

Deno.test("alphas that differ between layers are worked into B", () => {
  const lora = sample(["to_v"]);
  const file = toKohyaLora(lora);
  const alpha = Object.keys(file.tensors).find((n) => n.endsWith(".alpha"));
  assert.ok(alpha);
  const changed: Tensor = { dtype: "float32", shape: [], data: Float32Array.of(12) };
  const back = fromLoraFile(
    { ...file, tensors: { ...file.tensors, [alpha]: changed } },
    { layers, path: "x" },
  );
  // alpha is now the rank, 3: one layer had 12, the others 6.
  assert.equal(back.alpha, 3);
  const factors = Object.keys(lora.tensors).filter((n) => n.includes("lora_B")).map((n) =>
    Math.round((back.tensors[n]?.data[0] ?? 0) / (lora.tensors[n]?.data[0] ?? 0))
  );
  assert.deepEqual(factors.sort(), [...factors.slice(1).map(() => 2), 4]);
});

Deno.test("files that do not fit the model are refused, and the tensor named", () => {
  const good = toDiffusersLora(sample(["to_q"]));
  const name = Object.keys(good.tensors)[0] ?? "";
  const refused = (change: Partial<LoraFile>, message: RegExp) =>
    assert.throws(() => fromLoraFile({ ...good, ...change }, { layers, path: "f" }), (error) => {
      assert.ok(error instanceof LoraError);
      assert.match(error.message, /^LoRA file f: /);
      assert.match(error.message, message);
      return true;
    });
  const { [name]: first, ...rest } = good.tensors;
  assert.ok(first?.dtype === "float32");
  refused({ tensors: rest }, /lora_A of "down_blocks.0.*to_q" is missing, expected \[3,8\]/);
  refused(
    { tensors: { ...good.tensors, "text_encoder.x.lora_A.weight": first } },
    /tensor "text_encoder.x.lora_A.weight" belongs to no adaptable layer/,
  );
  refused(
    { tensors: { ...rest, [name]: { ...first, shape: [3, 9], data: new Float32Array(27) } } },
    /is \[3,9\], expected \[3,8\]/,
  );
  refused(
    { tensors: { ...rest, [name]: { ...first, shape: [2, 8], data: new Float32Array(16) } } },
    /lora_B of .* is \[8,3\], expected \[8,2\]/,
  );
  refused(
    { tensors: { ...rest, [name]: { dtype: "int32", shape: [3, 8], data: new Int32Array(24) } } },
    /is int32, expected a float dtype/,
  );
  refused({ tensors: {} }, /holds no LoRA tensor/);
  const config = (fields: Record<string, unknown>) => ({
    metadata: { lora_adapter_metadata: JSON.stringify({ "unet.lora_alpha": 4, ...fields }) },
  });
  refused(config({ "unet.use_dora": true }), /"unet.use_dora" is true, expected none/);
  refused(config({ "unet.alpha_pattern": { x: 1 } }), /"unet.alpha_pattern" is {"x":1}, expected/);
  refused(config({ "unet.lora_alpha": "4" }), /"unet.lora_alpha" is "4", expected a number/);
  refused({ metadata: { lora_adapter_metadata: "{" } }, /is not valid JSON/);
});
