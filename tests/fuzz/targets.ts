import { type DescMessage, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import {
  Builder,
  describeModel,
  GraphError,
  ImportError,
  importModel,
} from "../../autodiff/mod.ts";
import { InputError } from "../../base/mod.ts";
import { loadClipTokenizer, loadTextTokenizer } from "../../models/tokenizer/mod.ts";
import { openSafetensors, openTorchFile } from "../../models/weights/mod.ts";
import {
  ModelInferRequestSchema,
  RunConfigSchema,
  ScoreAndGradientRequestSchema,
  ScoreRequestSchema,
  StartRunRequestSchema,
} from "../../proto/mod.ts";
import { decodeImage } from "../../rewards/mod.ts";
import { HttpError, messageOf } from "../../services/gateway/mod.ts";
import { parseConfigText } from "../../services/launch/mod.ts";
import { rewardServerSchema } from "../../services/reward/mod.ts";
import { csvLine, parseCsv } from "../../services/cli/mod.ts";
import { MessageSchemas, StatusError } from "../../services/rpc/mod.ts";
import { parseRunConfig, readCheckpoint, RunFileError, RunFolder } from "../../trainer/mod.ts";
import type { CsvPeer } from "./_csv_peer.ts";
import {
  type Dice,
  mutateBytes,
  mutateJsonLines,
  mutateJsonText,
  mutateMessage,
  mutateSafetensors,
} from "./_mutate.ts";
import { checkBody, checkedMessage, checkSafetensors, checkSize, imageSize } from "./_oracles.ts";

/** What is fed with mutated seeds. */
export interface Target {
  readonly name: string;
  readonly seeds: readonly [Uint8Array, ...Uint8Array[]];
  readonly mutate: (seed: Uint8Array, dice: Dice) => Uint8Array;
  /**
   * Reads it, and holds what was read against a second reading or against what the bytes say themselves. Throws where it
   * is refused, and an `AssertionError` where the two differ.
   */
  readonly read: (bytes: Uint8Array) => Promise<unknown> | unknown;
  /** Whether what was thrown is a clear refusal, beside `InputError`, `StatusError` and `HttpError` below 500. */
  readonly refuses?: (error: unknown) => boolean;
}

const root = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const file = (relative: string) => Deno.readFile(root(relative));
const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const decoded = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Whether an error tells whoever gave the input what is wrong with it. */
export function isClear(error: unknown, { refuses }: Target): boolean {
  if (error instanceof StatusError) {
    return error.status !== "INTERNAL" && error.status !== "UNKNOWN";
  }
  if (error instanceof HttpError) return error.status < 500;
  return error instanceof InputError || (refuses?.(error) ?? false);
}

/** All targets. Files go into `folder`, which is theirs. */
export async function fuzzTargets(
  folder: string,
  { csv }: {
    /** Reads CSV, too. Default: nobody does. */
    readonly csv?: CsvPeer | undefined;
  } = {},
): Promise<readonly Target[]> {
  const schemas = new MessageSchemas();
  const small = await smallImages();
  const tensor = {
    dtype: "DATA_TYPE_FLOAT32",
    shape: [3, 8, 8],
    data: base64(new Uint8Array(768)),
  };
  const score = {
    reward: "clip",
    images: [{ tensor }, { encoded: base64(small[0]) }],
    prompts: ["a", "b"],
  };
  const runConfig = {
    model: "pipeline",
    method: { name: "drtune", k: 1, m: 1 },
    sampler: { kind: "ddpm", steps: 4 },
    lora: { rank: 4 },
    batch: { size: 1 },
    iterations: 2,
    prompts: { list: { prompts: ["a fox, and books"] } },
    rewards: [{ name: "symmetry", weight: 1 }, { name: "clip", weight: 0.3 }],
  };
  const place = async (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    await Deno.writeFile(path, bytes);
    return path;
  };
  const copy = async (from: string, names: readonly string[], to: string) => {
    await Deno.mkdir(join(folder, to), { recursive: true });
    for (const name of names) await place(`${to}/${name}`, await file(`${from}/${name}`));
  };
  const message = (schema: DescMessage, value: JsonValue) => ({
    seeds: [toBinary(schema, fromJson(schema, value))] as const,
    mutate: mutateMessage,
    read: (bytes: Uint8Array) => checkedMessage(schema, bytes),
  });
  const body = <D extends DescMessage>(schema: D, bytes: Uint8Array, type: string) => {
    const read = (text: string) => messageOf(schema, { text, type }, schemas);
    checkBody(schema, read(decoded(bytes)), (value) => read(JSON.stringify(value)));
  };
  const clip = "tests/golden/rewards/clip_gelu";
  const clipFiles = [
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
  ];
  await copy(clip, clipFiles, "clip");
  await copy("tests/golden/tiny-sd/tokenizer", ["tokenizer.json", "tokenizer_config.json"], "text");
  const lora = await file("tests/golden/models/lora_files/diffusers.safetensors");
  const checkpoint = await checkpointIn(folder);
  await Deno.mkdir(join(folder, "log"), { recursive: true });
  const events = new RunFolder(join(folder, "log"));

  return [
    { name: "message ScoreRequest", ...message(ScoreRequestSchema, score) },
    { name: "message ScoreAndGradientRequest", ...message(ScoreAndGradientRequestSchema, score) },
    {
      name: "message StartRunRequest",
      ...message(StartRunRequestSchema, { runId: "a", config: runConfig }),
    },
    {
      name: "message ModelInferRequest",
      ...message(ModelInferRequestSchema, {
        modelName: "clip",
        parameters: { gradient: { boolParam: true } },
        inputs: [{ name: "IMAGE", datatype: "FP32", shape: ["1", "3", "8", "8"] }],
        rawInputContents: [base64(new Uint8Array(768))],
      }),
    },
    {
      name: "JSON body of a score",
      seeds: [text(score)],
      mutate: mutateJsonText,
      read: (bytes) => body(ScoreRequestSchema, bytes, "application/json"),
    },
    {
      name: "JSON body of a run",
      seeds: [text(runConfig)],
      mutate: mutateJsonText,
      read: (bytes) => body(RunConfigSchema, bytes, "application/json"),
    },
    {
      name: "YAML body of a run",
      seeds: [await file("configs/books.yaml"), await file("configs/tiny.yaml")],
      mutate: mutateBytes,
      read: (bytes) => body(RunConfigSchema, bytes, "application/yaml"),
    },
    {
      name: "YAML file",
      seeds: [new TextEncoder().encode(REWARDS_YAML)],
      mutate: mutateBytes,
      read: (bytes) => {
        const parsed = (text: string) =>
          parseConfigText(text, rewardServerSchema, { path: "rewards.yaml" });
        const settings = parsed(decoded(bytes));
        assert.deepEqual(parsed(stringify(settings)), settings);
      },
    },
    {
      name: "run configuration",
      seeds: [
        text({
          ...runConfig,
          prompts: ["a fox"],
          rewards: [{ name: "clip", endpoint: "127.0.0.1:50051", weight: 1 }],
        }),
      ],
      mutate: mutateJsonText,
      read: (bytes) => {
        const config = parseRunConfig(JSON.parse(decoded(bytes)));
        assert.deepEqual(parseRunConfig(JSON.parse(JSON.stringify(config))), config);
      },
      refuses: isNoJson,
    },
    {
      name: "pickle",
      seeds: [
        await file("tests/golden/rewards/open_clip_tiny.pt"),
        await file("tests/golden/rewards/aesthetic_tiny.pth"),
      ],
      mutate: (seed, dice) => withPickle(seed, dice),
      read: async (bytes) => {
        const weights = openTorchFile(await place("weights.pt", bytes));
        for (const [name, { shape }] of [...weights.tensors].slice(0, 2)) {
          const tensor = await weights.read(name);
          assert.deepEqual(tensor.shape, shape);
          checkSize(tensor);
        }
      },
    },
    {
      name: "safetensors",
      seeds: [lora],
      mutate: mutateSafetensors,
      read: async (bytes) => {
        const weights = openSafetensors(await place("weights.safetensors", bytes));
        await checkSafetensors(weights, bytes);
      },
    },
    {
      name: "ONNX",
      seeds: [
        await file("tests/autodiff/models/cnn_opset20.onnx"),
        await file("tests/autodiff/models/cnn_opset11.onnx"),
      ],
      mutate: mutateMessage,
      read: (bytes) => {
        const { inputs: [input], outputs } = describeModel(bytes);
        const b = new Builder({ differentiable: true });
        const name = input?.name ?? "image";
        const made = importModel(b, bytes, {
          inputs: { [name]: b.input("image", { dtype: "float32", shape: [2, 3, 20, 20] }) },
        });
        // A file may name an output more than once.
        const names = new Set(outputs.map((output) => output.name));
        assert.deepEqual(new Set(Object.keys(made)), names);
        for (const [at, { shape }] of Object.entries(made)) {
          assert.ok(shape.every((size) => Number.isSafeInteger(size) && size >= 0), at);
          // What the file says of its output, where it says it of each dimension.
          const said = outputs.find((output) => output.name === at)?.shape;
          if (said?.length !== shape.length) continue;
          for (const [i, size] of said.entries()) {
            if (typeof size === "number") assert.equal(shape[i], size, `${at}, dimension ${i}`);
          }
        }
      },
      refuses: (error) => error instanceof ImportError || error instanceof GraphError,
    },
    {
      name: "CLIP vocabulary",
      seeds: [await file(`${clip}/vocab.json`)],
      mutate: mutateJsonText,
      read: async (bytes) => {
        await place("clip/vocab.json", bytes);
        const { ids } = loadClipTokenizer(join(folder, "clip")).encode("a fox, and books");
        checkIds(ids, JSON.parse(decoded(bytes)));
      },
    },
    {
      name: "tokenizer.json",
      seeds: [await file("tests/golden/tiny-sd/tokenizer/tokenizer.json")],
      mutate: mutateJsonText,
      read: async (bytes) => {
        await place("text/tokenizer.json", bytes);
        const { ids, mask, length } = loadTextTokenizer(join(folder, "text"))
          .encode("a fox, and books", 16);
        assert.deepEqual([ids.length, mask.length], [16, 16]);
        assert.equal(mask.reduce((sum, one) => sum + one, 0), length);
      },
    },
    {
      name: "image",
      seeds: small,
      mutate: mutateBytes,
      read: async (bytes) => {
        const { shape, data } = await decodeImage(bytes, { name: "Image", maxPixels: 2 ** 18 });
        const size = imageSize(bytes);
        if (size !== undefined) assert.deepEqual(shape, [1, 3, ...size]);
        assert.equal(data.length, shape.reduce((product, n) => product * n, 1));
        assert.ok(data.every((value) => value >= 0 && value <= 1));
      },
    },
    {
      name: "CSV",
      seeds: [
        new TextEncoder().encode('image,prompt\na.png,"a fox, and ""books"""\nb.png,x\n'),
        new TextEncoder().encode('a,b\r\n"x\r\ny","",z\r\r\n\n" q",p"p"\n"a"b,\u00e9'),
      ],
      mutate: mutateBytes,
      read: async (bytes) => {
        const rows = parseCsv(decoded(bytes));
        if (csv !== undefined) assert.deepEqual(rows, await csv.rows(decoded(bytes)));
        // What is written of it is read as the same.
        assert.deepEqual(parseCsv(rows.map((row) => `${csvLine(row)}\n`).join("")), rows);
      },
    },
    {
      name: "checkpoint",
      seeds: [checkpoint.lora],
      mutate: mutateSafetensors,
      read: async (bytes) => {
        await Deno.writeFile(join(checkpoint.path, "lora.safetensors"), bytes);
        // As one who can write the file can write its digest.
        await Deno.writeTextFile(
          join(checkpoint.path, "manifest.json"),
          checkpoint.manifest(bytes),
        );
        const { parameters, optimizer } = await readCheckpoint(folder, 1);
        assert.deepEqual(Object.keys(parameters).sort(), Object.keys(optimizer.mean).sort());
        const file = join(checkpoint.path, "lora.safetensors");
        await checkSafetensors(openSafetensors(file), bytes);
        for (const tensor of Object.values(parameters)) checkSize(tensor);
      },
      refuses: (error) => error instanceof RunFileError,
    },
    {
      name: "manifest of a checkpoint",
      seeds: [new TextEncoder().encode(checkpoint.manifest(checkpoint.lora))],
      mutate: mutateJsonText,
      read: async (bytes) => {
        await Deno.writeFile(join(checkpoint.path, "lora.safetensors"), checkpoint.lora);
        await Deno.writeFile(join(checkpoint.path, "manifest.json"), bytes);
        const { step, optimizer } = await readCheckpoint(folder, 1);
        const { updates } = JSON.parse(decoded(bytes));
        assert.deepEqual([step, optimizer.updates], [1, updates]);
      },
      refuses: (error) => error instanceof RunFileError,
    },
    {
      name: "event log",
      seeds: [new TextEncoder().encode(
        [
          {
            type: "state",
            step: 0,
            at: "2026-01-01T00:00:00.000Z",
            state: "running",
            reason: "",
            iterations: 2,
          },
          { type: "checkpoint", step: 1, at: "2026-01-01T00:00:01.000Z" },
        ].map((event) => `${JSON.stringify(event)}\n`).join(""),
      )],
      mutate: mutateJsonLines,
      read: async (bytes) => {
        await place("log/events.jsonl", bytes);
        const found = await events.events();
        // The last line has no end where it was cut short.
        const lines = decoded(bytes).split("\n").slice(0, -1);
        assert.equal(found.length, lines.length);
        for (const [i, event] of found.entries()) {
          assert.partialDeepStrictEqual(event, JSON.parse(lines[i] ?? ""));
        }
        // What is left is read as the same.
        assert.deepEqual(await events.events(), found);
      },
      refuses: (error) =>
        error instanceof Error && /^Line \d+ of .* is no event$/.test(error.message),
    },
  ];
}

const REWARDS_YAML = `port: 50051
rewards:
  - { kind: symmetry }
  - name: likeness
    kind: clip
    weights: clip/
limits: { maxImages: 16 }
batching:
  maxBatch: 4
`;

const isNoJson = (error: unknown) => error instanceof SyntaxError;

function base64(bytes: Uint8Array): string {
  return bytes.toBase64();
}

async function smallImages(): Promise<[Uint8Array, ...Uint8Array[]]> {
  const { default: sharp } = await import("sharp");
  const pixels = Uint8Array.from({ length: 3 * 16 * 12 }, (_, i) => i * 31 % 251);
  const image = sharp(pixels, { raw: { width: 16, height: 12, channels: 3 } });
  return [
    new Uint8Array(await image.clone().png().toBuffer()),
    new Uint8Array(await image.clone().jpeg().toBuffer()),
    new Uint8Array(await image.clone().webp().toBuffer()),
  ];
}

/** Ids that a vocabulary gives. */
function checkIds(ids: Iterable<number>, vocabulary: Readonly<Record<string, unknown>>): void {
  const known = new Set(Object.values(vocabulary));
  for (const id of ids) assert.ok(known.has(id), `id ${id} is not in the vocabulary`);
}

/** Changes the pickle of a zip archive, which lies there as it is, or anything. */
function withPickle(seed: Uint8Array, dice: Dice): Uint8Array {
  if (dice.roll(3) === 0) return mutateBytes(seed.subarray(0, 20_000), dice);
  // PROTO 2, as torch writes it.
  const start = seed.findIndex((byte, i) => byte === 0x80 && seed[i + 1] === 2);
  const changed = new Uint8Array(seed);
  for (let left = 1 + dice.roll(4); left > 0; left--) {
    changed[start + dice.roll(400)] = dice.roll(3)
      ? dice.roll(256)
      : dice.pick([0x2e, 0x63, 0x52, 0x62, 0x28]);
  }
  return changed;
}

/** A checkpoint of one small matrix. */
async function checkpointIn(folder: string) {
  const path = join(folder, "step-000001");
  await Deno.mkdir(path, { recursive: true });
  const safetensors = (names: readonly string[]) => {
    const header = text(
      Object.fromEntries(
        names.map((
          name,
          i,
        ) => [name, { dtype: "F32", shape: [2, 2], data_offsets: [16 * i, 16 * (i + 1)] }]),
      ),
    );
    const bytes = new Uint8Array(8 + header.length + 16 * names.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
    bytes.set(header, 8);
    return bytes;
  };
  const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const lora = safetensors(["a", "b"]);
  const optimizer = safetensors(["mean.a", "square.a", "mean.b", "square.b"]);
  await Deno.writeFile(join(path, "optimizer.safetensors"), optimizer);
  const manifest = (bytes: Uint8Array) =>
    JSON.stringify({
      step: 1,
      updates: 1,
      files: { "lora.safetensors": sha256(bytes), "optimizer.safetensors": sha256(optimizer) },
      metadata: {},
    });
  return { path, lora, manifest };
}
