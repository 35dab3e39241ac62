import assert from "node:assert/strict";
import { openOnnxModel } from "./_onnx_model.ts";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ModelProtoSchema, TensorProto_DataLocation } from "onnx-buf";
import { float32 } from "../../autodiff/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import { onnxModel } from "../../tests/autodiff/mod.ts";
import { type Engine, openEngine } from "../../runtime/mod.ts";
import { close, largestOf } from "../_test_close.ts";
import { loadReward } from "../load_reward.ts";
import type { RewardConfigInput } from "../registry.ts";
import { withFolder } from "../../tests/support/mod.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const MODELS = path("../../tests/autodiff/models");
const SCORERS = path("../testdata/scorers");
const GOLDEN = path("../../tests/golden/rewards");

/** Relative to the largest; found are 2e-6 at most. PyTorch's run in float32 here, and in float64 for the scorers. */
const TOLERANCE = 1e-5;

/** A square model's own size comes unresized through any fit. */
const EXPORTS: Readonly<Record<string, Partial<RewardConfigInput & { kind: "onnx" }>>> = {
  cnn_opset11: {},
  cnn_opset20: { fit: "crop" },
  vit_opset12: {},
  vit_opset14: { input: "image", output: "score" },
  vit_opset18: { fit: "stretch" },
};

for (const [name, options] of Object.entries(EXPORTS)) {
  Deno.test(`What PyTorch exported scores and differentiates as PyTorch: ${name}`, async () => {
    const facts = openSafetensors(join(MODELS, `${name}.safetensors`));
    const [image, cotangent, expected, slope] = await Promise.all(
      ["image", "cotangent", "score", "gradient"].map((part) => facts.readFloat32(part)),
    );
    assert.ok(image && cotangent && expected && slope);
    const [batch = 0, columns = 1] = expected.shape;
    const total = new Float32Array(image.data.length);
    for (let index = 0; index < columns; index++) {
      const column = (data: Float32Array) => data.filter((_, i) => i % columns === index);
      const reward = await loadReward({
        kind: "onnx",
        weights: join(MODELS, `${name}.onnx`),
        ...(columns > 1 && { index }),
        ...options,
      }, { threads: 1 });
      const { scores, gradient } = await reward.score(image, [], { gradient: true });
      close(scores, column(expected.data), TOLERANCE * largestOf(expected.data));
      const each = image.data.length / batch;
      const seed = column(cotangent.data);
      for (const [i, g] of gradient?.data.entries() ?? []) {
        total[i] = (total[i] ?? 0) + g * (seed[Math.floor(i / each)] ?? 0);
      }
      assert.ok((reward.info.selfCheck?.relativeError ?? 1) < 0.03);
      await reward.dispose();
    }
    close(total, slope.data, TOLERANCE * largestOf(slope.data));
  });
}

Deno.test("No branch reads from outside of it, and the score alone is computed without the gradient", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  const loaded: Uint8Array[] = [];
  const watched: Engine = {
    pid: engine.pid,
    load: (model, options) => {
      loaded.push(model.bytes);
      return engine.load(model, options);
    },
    place: (name) => engine.place(name),
    keep: (...args) => engine.keep(...args),
    forget: (...args) => engine.forget(...args),
    cpuSeconds: () => engine.cpuSeconds(),
    close: () => engine.close(),
  };
  try {
    const reward = await loadReward(
      { kind: "onnx", weights: join(MODELS, "vit_opset18.onnx"), fit: "stretch" },
      { engine: watched, threads: 1, selfCheck: false },
    );
    const image = await openSafetensors(join(MODELS, "vit_opset18.safetensors"))
      .readFloat32("image");
    const one = float32(image.data.slice(0, image.data.length / (image.shape[0] ?? 1)), [
      1,
      ...image.shape.slice(1),
    ]);
    const both = await reward.score(one, [], { gradient: true });
    const alone = await reward.score(one, []);
    close(alone.scores, both.scores, TOLERANCE * largestOf(both.scores));
    const graphs = loaded.map((bytes) => fromBinary(ModelProtoSchema, bytes).graph?.node ?? []);
    assert.equal(graphs.flat().some(({ opType }) => opType === "If"), false);
    const [withGradient = [], scoreAlone = []] = graphs.slice(-2);
    assert.ok(scoreAlone.length < withGradient.length);
    await reward.dispose();
  } finally {
    await engine.close();
  }
});

Deno.test("Layout, channels, range, mean, fit and prompt are as configured, and PyTorch agrees", async () => {
  await withFolder(async (cacheDir) => {
    const expected = openSafetensors(join(SCORERS, "expected.safetensors"));
    const image = await expected.readFloat32("image");
    const images = float32(image.data, image.shape);
    const prompts = ["a fox, and books", "two red cats"];
    const configs: readonly [string, RewardConfigInput, object][] = [
      ["layout", {
        kind: "onnx",
        weights: "layout.onnx",
        layout: "NHWC",
        channels: "BGR",
        pixels: [-1, 1],
        fit: "crop",
        resample: "bilinear",
        direction: "minimise",
        range: [0, 1],
      }, {
        direction: "minimise",
        range: [0, 1],
        readsPrompt: false,
        preprocessing:
          "resize shortest side to 24 bilinear antialias, centre crop, pixels in -1 to 1, BGR, NHWC",
      }],
      ["prompt", {
        kind: "onnx",
        weights: "prompt.onnx",
        name: "match",
        input: "pixel_values",
        output: "similarity",
        size: 16,
        fit: "stretch",
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        text: {
          input: "input_ids",
          mask: "attention_mask",
          tokenizer: join(GOLDEN, "clip_gelu"),
          length: 12,
        },
      }, { name: "match", readsPrompt: true, direction: "maximise", range: [-Infinity, Infinity] }],
    ];
    for (const [name, config, facts] of configs) {
      const reward = await loadReward(config, { baseDir: SCORERS, cacheDir, threads: 1 });
      const found = Object.entries(reward.info).filter(([key]) => key in facts);
      assert.deepEqual(Object.fromEntries(found), facts);
      const { scores, gradient } = await reward.score(images, prompts, { gradient: true });
      close(scores, (await expected.readFloat32(`${name}.score`)).data, 1e-6);
      const { data } = await expected.readFloat32(`${name}.gradient`);
      close(gradient?.data ?? [], data, TOLERANCE * largestOf(data));
      await reward.dispose();
    }
    // The embedding is large enough to be shared by all sessions, from a file; the other model's tensors are not.
    const cached = [...Deno.readDirSync(cacheDir)].map((entry) => entry.name);
    assert.match(cached.join(), /^[0-9a-f]{64}\.safetensors$/);
  });
});

const MEAN_OF_IMAGE = {
  opset: 18,
  inputs: { x: { shape: ["b", 3, "h", "w"] } },
  nodes: [{ op: "ReduceMean", inputs: ["x"], outputs: ["y"], attributes: { keepdims: 0 } }],
  outputs: ["y"],
};

/** A model that also says what its outputs are, as exporters do. */
function typed(model: Parameters<typeof onnxModel>[0]) {
  const proto = onnxModel(model);
  const [input] = proto.graph?.input ?? [];
  for (const output of proto.graph?.output ?? []) if (input?.type) output.type = input.type;
  return proto;
}

Deno.test("A configuration that does not fit the model is refused by name", async () => {
  await withFolder(async (folder) => {
    const refuses = async (config: Record<string, unknown>, message: RegExp) => {
      const load = loadReward({ kind: "onnx", weights: "m.onnx", ...config }, {
        baseDir: folder,
        cacheDir: join(folder, "cache"),
      });
      await assert.rejects(load, message);
    };
    const model = (change: object) =>
      Deno.writeFile(
        join(folder, "m.onnx"),
        toBinary(ModelProtoSchema, typed({ ...MEAN_OF_IMAGE, ...change })),
      );
    await refuses({}, /m\.onnx does not exist$/);
    await refuses({ weights: "." }, /is not a file$/);
    await Deno.writeTextFile(join(folder, "m.onnx"), "no model");
    await refuses({}, /m\.onnx: Model is not an ONNX file, or damaged$/);
    await model({});
    await refuses(
      { fit: "crop" },
      /^RewardConfigError: Reward field "size" is missing: fit is crop/,
    );
    await refuses({ size: 8 }, /Reward field "fit" is missing: the model reads 8x8 pixels/);
    await refuses({ input: "z" }, /Reward field "input" is "z", expected one of "x"$/);
    await refuses({ output: "z" }, /Reward field "output" is "z", expected one of "y"$/);
    await refuses({ text: { input: "z" } }, /Reward field "text.input" is "z"/);
    await refuses({ std: 0 }, /Reward field "std" is 0, expected more than 0/);
    await refuses({ mean: "grey" }, /"mean" is "grey", expected a number, or one for red, green/);
    await model({ inputs: { x: { shape: ["b", 3, 8, 9] } } });
    await refuses({}, /Reward field "fit" is missing: the model reads 8x9 pixels/);
    await refuses({ size: 8, fit: "pad" }, /Reward field "size" is 8, the model reads 8x9/);
    await refuses({ size: [8], fit: "pad" }, /Reward field "size" is \[8\], expected pixels, or/);
    const reward = await loadReward({ kind: "onnx", weights: join(folder, "m.onnx"), fit: "pad" });
    // 16x9 becomes 8x4.5, rounded to 4 of 9 columns, and zeros beside them.
    const white = float32(new Float32Array(3 * 16 * 9).fill(1), [1, 3, 16, 9]);
    close((await reward.score(white, [])).scores, [4 / 9], 1e-6);
    await reward.dispose();
    await model({ inputs: { x: { shape: ["b", 3, 8, 8] } } });
    await refuses({ layout: "NHWC" }, /Input "x" has shape \[b, 3, 8, 8\], .* the last is 3 \(/);
    await refuses({ size: 9, fit: "crop" }, /Reward field "size" is 9, the model reads 8x8/);
    await refuses({}, /Reward field "fit" is missing: the model reads 8x8 pixels/);
    await model({ inputs: { x: { shape: [4, 3, 8, 8] } } });
    await refuses({ fit: "crop" }, /Model takes 4 images at a time, expected one or any number/);
    await model({ inputs: { x: { shape: ["b", 3, "h", "w"] }, ids: { shape: ["b", 7] } } });
    await refuses(
      { input: "x" },
      /Model takes "ids" beside the image "x", and nothing is fed to it/,
    );
    await model({
      nodes: [{ op: "Flatten", inputs: ["x"], outputs: ["y"] }],
      inputs: { x: { shape: ["b", 3, 4, 4] } },
    });
    await refuses(
      { fit: "crop" },
      /Output "y" has 48 numbers an image: set "index" to one of 0 to 47/,
    );
    await refuses({ fit: "crop", index: 48 }, /Output "y" has 48 numbers an image: "index" is 48/);
    // No rule, or no such operator: operator, node and path are named.
    await model({
      nodes: [
        { op: "Sin", name: "wave", inputs: ["x"], outputs: ["s"] },
        { op: "NonMaxSuppression", name: "pick", inputs: ["s", "s"], outputs: ["y"] },
      ],
    });
    await refuses(
      {},
      /m\.onnx: Node "pick" \(NonMaxSuppression\): Operator NonMaxSuppression is not/,
    );
    await model({
      nodes: [
        { op: "Floor", inputs: ["x"], outputs: ["f"] },
        { op: "ReduceMean", inputs: ["f"], outputs: ["y"], attributes: { keepdims: 0 } },
      ],
    });
    await refuses({}, /m\.onnx: No gradient reaches "pixels"/);
  });
});

Deno.test("Tensors beside a model are read in its folder only, and through no link", async () => {
  await withFolder(async (outside) => {
    const folder = join(outside, "model");
    await Deno.mkdir(folder);
    await Deno.writeFile(join(outside, "w.data"), new Uint8Array(16));
    const load = async (location: string) => {
      const proto = typed({
        opset: 18,
        inputs: { x: { shape: ["b", 3, "h", "w"] } },
        stored: { w: float32([1], [1]) },
        nodes: [
          { op: "Mul", inputs: ["x", "w"], outputs: ["z"] },
          { op: "ReduceMean", inputs: ["z"], outputs: ["y"], attributes: { keepdims: 0 } },
        ],
        outputs: ["y"],
      });
      const [w] = proto.graph?.initializer ?? [];
      assert.ok(w);
      w.rawData = new Uint8Array();
      w.dataLocation = TensorProto_DataLocation.EXTERNAL;
      w.externalData = [{
        $typeName: "onnx.StringStringEntryProto",
        key: "location",
        value: location,
      }];
      await Deno.writeFile(join(folder, "m.onnx"), toBinary(ModelProtoSchema, proto));
      return await loadReward({ kind: "onnx", weights: "m.onnx" }, { baseDir: folder });
    };
    await assert.rejects(load("../w.data"), /"w" lies in "\.\.\/w\.data", expected a path inside/);
    await assert.rejects(
      load(join(outside, "w.data")),
      /expected a path inside the model's folder/,
    );
    await assert.rejects(load("none"), /keeps tensors in "none", which does not exist$/);
    await Deno.symlink(join(outside, "w.data"), join(folder, "out.data"));
    await assert.rejects(load("out.data"), /keeps tensors in "out\.data", which is a link$/);
    await Deno.symlink(outside, join(folder, "sub"));
    await assert.rejects(load("sub/w.data"), /keeps tensors in "sub\/w\.data", which is a link$/);
    await Deno.writeFile(join(folder, "short.data"), new Uint8Array(2));
    await assert.rejects(load("short.data"), /'short\.data'/);
  });
});

Deno.test("the digest covers tensors in a file of whatever name, also of one that objects have", async () => {
  await withFolder(async (folder) => {
    const digest = async (location: string, value: number) => {
      const proto = typed({
        opset: 18,
        inputs: { x: { shape: ["b", 3, "h", "w"] } },
        stored: { w: float32([1], [1]) },
        nodes: [
          { op: "Mul", inputs: ["x", "w"], outputs: ["z"] },
          { op: "ReduceMean", inputs: ["z"], outputs: ["y"], attributes: { keepdims: 0 } },
        ],
        outputs: ["y"],
      });
      const [w] = proto.graph?.initializer ?? [];
      assert.ok(w);
      w.rawData = new Uint8Array();
      w.dataLocation = TensorProto_DataLocation.EXTERNAL;
      w.externalData = [{
        $typeName: "onnx.StringStringEntryProto",
        key: "location",
        value: location,
      }];
      await Deno.writeFile(join(folder, location), new Uint8Array(Float32Array.of(value).buffer));
      const path = join(folder, "m.onnx");
      await Deno.writeFile(path, toBinary(ModelProtoSchema, proto));
      return (await openOnnxModel(path, join(folder, "cache"))).digests;
    };
    for (const name of ["model", "constructor", "toString", "__proto__", "w.data"]) {
      const [one, other] = [await digest(name, 1), await digest(name, 2)];
      assert.equal(Object.keys(one).length, 2);
      assert.equal(one.model, other.model);
      assert.notEqual(JSON.stringify(one), JSON.stringify(other), name);
    }
  });
});
