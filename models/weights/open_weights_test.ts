import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { encodeSafetensors, openWeights, type OpenWeightsOptions } from "./mod.ts";

const TESTDATA = join(import.meta.dirname ?? "", "..", "testdata");

/** A safetensors file holding one tensor, named after the file unless said otherwise. */
const weights = (name: string) => encodeSafetensors({ [name]: float32([1, 2]) });

/** Runs with a folder of the given files; text is written as JSON where it is an object. */
async function withFolder(
  files: Record<string, Uint8Array | object>,
  action: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  try {
    for (const [name, content] of Object.entries(files)) {
      const bytes = content instanceof Uint8Array
        ? content
        : new TextEncoder().encode(JSON.stringify(content));
      await Deno.mkdir(join(folder, name, ".."), { recursive: true });
      await Deno.writeFile(join(folder, name), bytes);
    }
    await action(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const CHOICES: [name: string, names: string[], options: OpenWeightsOptions, file: string][] = [
  ["model over others", ["model.safetensors", "extra.safetensors"], {}, "model.safetensors"],
  ["the plain file", ["model.safetensors", "model.fp16.safetensors"], {}, "model.safetensors"],
  [
    "the variant asked for",
    ["model.safetensors", "model.fp16.safetensors"],
    { variant: "fp16" },
    "model.fp16.safetensors",
  ],
  [
    "the only variant",
    ["diffusion_pytorch_model.fp16.safetensors"],
    {},
    "diffusion_pytorch_model.fp16.safetensors",
  ],
  ["the only file", ["lora.safetensors", "README.md"], {}, "lora.safetensors"],
];

for (const [name, names, options, file] of CHOICES) {
  Deno.test(`of a folder is taken: ${name}`, () =>
    withFolder(Object.fromEntries(names.map((n) => [n, weights(n)])), async (folder) => {
      const source = await openWeights(folder, options);
      assert.equal(source.root, folder);
      assert.deepEqual(source.names(), [file]);
      assert.equal(source.get(file).file, file);
    }));
}

Deno.test("a weight's location is that of its bytes, and the digest that of the file", () =>
  withFolder({ "model.safetensors": weights("w") }, async (folder) => {
    const source = await openWeights(folder);
    const { file, offset, byteLength, ...layout } = source.get("w");
    assert.deepEqual(layout, { dtype: "float32", shape: [2] });
    const bytes = await Deno.readFile(join(source.root, file));
    assert.deepEqual(
      bytes.slice(offset, offset + byteLength),
      new Uint8Array(Float32Array.of(1, 2).buffer),
    );
    assert.deepEqual(await source.read("w"), float32([1, 2]));
    assert.equal(await source.digest(), createHash("sha256").update(bytes).digest("hex"));
    assert.equal(source.has("v"), false);
    assert.throws(
      () => source.get("v"),
      /model.safetensors: has no weight "v" among its 1 weights/,
    );
    await assert.rejects(source.read("v"), /has no weight "v"/);
  }));

const SHARDS = {
  "model-00001-of-00002.safetensors": weights("a"),
  "model-00002-of-00002.safetensors": weights("b"),
};
const INDEX = {
  metadata: {},
  weight_map: { b: "model-00002-of-00002.safetensors", a: "model-00001-of-00002.safetensors" },
};

Deno.test("shards are one source", () =>
  withFolder({ ...SHARDS, "model.safetensors.index.json": INDEX }, async (folder) => {
    const source = await openWeights(folder);
    assert.deepEqual(source.names(), ["b", "a"]);
    assert.equal(source.get("b").file, "model-00002-of-00002.safetensors");
    assert.deepEqual(await source.read("a"), float32([1, 2]));
    const list = Object.values(SHARDS).map((bytes) =>
      createHash("sha256").update(bytes).digest("hex") + "\n"
    );
    assert.equal(await source.digest(), createHash("sha256").update(list.join("")).digest("hex"));
  }));

Deno.test("shards of a variant, as diffusers names them", () =>
  withFolder({
    ...SHARDS,
    "diffusion_pytorch_model.safetensors.index.fp16.json": INDEX,
    "diffusion_pytorch_model.safetensors.index.json": { weight_map: {} },
  }, async (folder) => {
    assert.deepEqual((await openWeights(folder, { variant: "fp16" })).names(), ["b", "a"]);
  }));

Deno.test("links are followed to the files, as hubs lay them out", () =>
  withFolder({
    "blobs/0a": SHARDS["model-00001-of-00002.safetensors"],
    "blobs/0b": SHARDS["model-00002-of-00002.safetensors"],
  }, async (folder) => {
    const snapshot = join(folder, "snapshots", "main");
    await Deno.mkdir(snapshot, { recursive: true });
    for (const [i, name] of Object.keys(SHARDS).entries()) {
      await Deno.symlink(`../../blobs/0${"ab"[i]}`, join(snapshot, name));
    }
    await Deno.writeTextFile(join(snapshot, "model.safetensors.index.json"), JSON.stringify(INDEX));
    const source = await openWeights(snapshot);
    assert.equal(source.root, join(folder, "blobs"));
    assert.equal(source.get("b").file, "0b");
    assert.deepEqual(await source.read("b"), float32([1, 2]));
  }));

Deno.test("a PyTorch file needs a folder to be converted in", () =>
  withFolder(
    { "pytorch_model.bin": Deno.readFileSync(join(TESTDATA, "torch_nested_legacy2.pt")) },
    async (folder) => {
      await assert.rejects(
        openWeights(folder),
        /is a PyTorch file; expected safetensors, or a cacheDir/,
      );
      const cacheDir = join(folder, "cache");
      const source = await openWeights(folder, { cacheDir, key: "state_dict" });
      assert.equal(source.root, cacheDir);
      assert.ok(source.has("0.weight"));
      const bytes = await Deno.readFile(join(folder, "pytorch_model.bin"));
      assert.equal(await source.digest(), createHash("sha256").update(bytes).digest("hex"));
    },
  ));

const index = (weight_map: unknown) => ({
  ...SHARDS,
  "model.safetensors.index.json": { weight_map },
});

for (
  const [name, files, options, message] of [
    ["an empty folder", {}, {}, /holds no weight file; it holds nothing/],
    [
      "a folder of other things",
      { "a.txt": weights("a") },
      {},
      /holds no weight file; it holds a\.txt/,
    ],
    [
      "an absent variant",
      { "model.safetensors": weights("a") },
      { variant: "fp16" },
      /no weight file of variant "fp16"; it holds model/,
    ],
    [
      "a choice",
      { "a.safetensors": weights("a"), "b.safetensors": weights("b") },
      {},
      /holds a\.safetensors, b\.safetensors; expected one/,
    ],
    [
      "a choice of variants",
      { "model.fp16.safetensors": weights("a"), "model.ema.safetensors": weights("b") },
      {},
      /holds model\.ema\.safetensors, model\.fp16\.safetensors; expected one/,
    ],
    [
      "a shard outside",
      index({ a: "../x.safetensors" }),
      {},
      /names shard "\.\.\/x\.safetensors", expected the plain name/,
    ],
    ["an absolute shard", index({ a: "/etc/x.safetensors" }), {}, /names shard "\/etc\/x/],
    ["another kind of shard", index({ a: "x.pkl" }), {}, /names shard "x\.pkl"/],
    ["a missing shard", index({ a: "x.safetensors" }), {}, /x\.safetensors: does not exist/],
    [
      "a weight elsewhere",
      index({ a: "model-00002-of-00002.safetensors" }),
      {},
      /places weight "a" in model-00002-of-00002\.safetensors, which has no/,
    ],
    ["a number for a shard", index({ a: 1 }), {}, /weight_map "a" is 1, expected a file name/],
    ["no weight_map", index(undefined), {}, /has no object weight_map/],
    ["an empty weight_map", index({}), {}, /names no weight/],
    ["no JSON", { "model.safetensors.index.json": weights("a") }, {}, /is not valid JSON/],
  ] as const
) {
  Deno.test(`weights refuse: ${name}`, () =>
    withFolder(files, (folder) => assert.rejects(openWeights(folder, options), message)));
}

Deno.test("weights refuse: a path that leads nowhere", () =>
  assert.rejects(
    openWeights("/no/such/model.safetensors"),
    /\/no\/such\/model\.safetensors: does not exist/,
  ));
