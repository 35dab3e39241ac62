import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, extname } from "node:path";
import sharp from "sharp";
import type { TensorOf } from "../../../autodiff/mod.ts";
import { writeSafetensors } from "../../../models/weights/mod.ts";
import {
  decodeImage,
  type Images,
  loadImageTensor,
  type Reward,
  RewardInputError,
} from "../../../rewards/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { TLS_OPTIONS } from "../tls_options.ts";
import { contactSheet, type Tile } from "../picture/contact_sheet.ts";
import { Progress } from "../progress.ts";
import { resolveInputs, type ScoreInput } from "../score/inputs.ts";
import { openRewards } from "../score/rewards.ts";
import { keyOf, openTable, readDone, type Row } from "../score/score_table.ts";
import { cut, summarise } from "../../../base/mod.ts";
import { StatusError } from "../../rpc/mod.ts";

/** Scores images with one or several rewards. */
export const score: Command = {
  name: "score",
  summary: "Score images with rewards, and write d score / d image",
  usage: "--reward KIND --image PATH [--prompt TEXT] [--gradient FILE]",
  options: {
    reward: {
      type: "string",
      multiple: true,
      value: "KIND",
      help:
        "aesthetic, clip, hpsv2, jpeg, onnx, owlvit, pickscore, symmetry; or a JSON record, or a name in --rewards; may be repeated",
    },
    rewards: { type: "string", value: "FILE", help: "YAML file with a list of reward records" },
    weights: {
      type: "string",
      value: "PATH",
      help: "weights of the reward (default: the embedded tiny model)",
    },
    head: { type: "string", value: "FILE", help: "head of the aesthetic reward" },
    tokenizer: {
      type: "string",
      value: "FOLDER",
      help: "tokenizer, where the weights' folder has none",
    },
    query: { type: "string", value: "TEXT", help: "what owlvit looks for (default: book)" },
    set: {
      type: "string",
      multiple: true,
      value: "FIELD=VALUE",
      help: "another field of the reward's record, e.g. quality=80; may be repeated",
    },
    image: {
      type: "string",
      multiple: true,
      value: "PATH",
      help:
        "picture, folder, glob, file.safetensors#name, or .csv/.tsv/.jsonl list with image and prompt",
    },
    prompt: { type: "string", value: "TEXT", help: "prompt of all images that bring none" },
    gradient: { type: "string", value: "FILE", help: "write d score / d image as safetensors" },
    processing: {
      type: "string",
      value: "NAME",
      help:
        "tensor (exact) or reference (8 bits); default: for pictures what the reward's Python package does, else tensor",
    },
    endpoint: { type: "string", value: "HOST:PORT", help: "ask a running reward service" },
    ...TLS_OPTIONS,
    out: {
      type: "string",
      value: "FILE",
      help: "append rows to a .jsonl or .csv file; what is in it already is not scored again",
    },
    sheet: {
      type: "string",
      value: "FILE",
      help: "write a contact sheet (PNG) with scores under the pictures",
    },
    threads: { type: "string", value: "N", help: "threads of one operator (default: all cores)" },
    json: { type: "boolean", help: "print one JSON object a line" },
  },
  examples: [
    "drtune score --reward symmetry --image a.png",
    'drtune score --reward clip --image pictures/ --prompt "a fox" --json',
    "drtune score --reward symmetry --image a.png --gradient g.safetensors",
    "drtune score --rewards rewards.yaml --image list.csv --out scores.csv --sheet sheet.png",
    "drtune score --endpoint 127.0.0.1:50051 --image a.png",
    "drtune score --endpoint grpcs://rewards.example.org:443 --ca ca.pem --image a.png",
  ],
  async run(args, signal) {
    const names = [...args.list("image"), ...args.positionals];
    if (names.length === 0) throw new UsageError("Name images: --image PATH");
    const processing = args.text("processing");
    if (processing !== undefined && processing !== "tensor" && processing !== "reference") {
      throw new UsageError(`Option --processing is "${processing}", expected tensor or reference`);
    }
    const inputs = await resolveInputs(names, args.text("prompt"));
    const out = args.text("out");
    const kind = out === undefined ? undefined : extname(out).toLowerCase();
    if (kind !== undefined && kind !== ".csv" && kind !== ".jsonl") {
      throw new UsageError(`Option --out is "${out}", expected a .csv or .jsonl file`);
    }
    const rewards = await openRewards(args);
    for (const { info } of rewards) {
      for (const warning of info.warnings ?? []) console.error(`${info.name}: ${warning}`);
    }
    const json = args.flag("json");
    const progress = new Progress({ quiet: json });
    try {
      const labels = rewards.map((r) => r.info.name);
      const twice = labels.find((label, i) => labels.indexOf(label) < i);
      if (twice !== undefined) {
        throw new UsageError(`Two rewards are called ${twice}: give each record a name`);
      }
      const done = out === undefined ? new Map() : await readDone(out, labels);
      const table = out === undefined ? undefined : await openTable(out, labels);
      const rows: Row[] = [];
      const gradients: Record<string, TensorOf<"float32">> = {};
      const tiles: Tile[] = [];
      const file = args.text("gradient");
      const sheet = args.text("sheet");
      const cut = new CutPrompts();
      let [count, failed] = [0, 0];
      for (const input of inputs) {
        signal.throwIfAborted();
        try {
          const images = await load(input);
          const known = idsOf(input, images).flatMap((id) =>
            done.get(keyOf(id, input.prompt)) ?? []
          );
          const isDone = known.length === images.shape[0];
          const { made, grads } = isDone && file === undefined
            ? { made: known, grads: [] }
            : await scoreInput(input, images, {
              rewards,
              wanted: file !== undefined,
              processing,
              cut,
              signal,
            });
          if (!isDone) { for (const row of made) await table?.(row); }
          rows.push(...made);
          if (json) { for (const row of made) console.log(JSON.stringify(row)); }
          for (const [name, g] of grads) {
            gradients[gradientName(name, input, { rewards, inputs })] = g;
          }
          if (sheet !== undefined) {
            tiles.push(...await tilesOf(images, { rows: made, shared: args.text("prompt") }));
          }
        } catch (error) {
          // One bad picture does not end a folder.
          if (inputs.length === 1 || !isOfInput(error)) throw error;
          failed++;
          progress.end();
          const isNamed = error.message.startsWith(input.file);
          console.error(isNamed ? error.message : `${input.id}: ${error.message}`);
        }
        progress.update({ done: ++count, total: inputs.length });
      }
      progress.end();
      cut.say();
      if (file !== undefined) {
        await mkdir(dirname(file), { recursive: true });
        await writeSafetensors(file, gradients);
      }
      if (sheet !== undefined) {
        await mkdir(dirname(sheet), { recursive: true });
        await writeFile(sheet, await contactSheet([{ heading: "", tiles }], { columns: 5 }));
      }
      if (!json) print(rows, { rewards, table: out === undefined });
      if (failed > 0) console.error(`${failed} of ${inputs.length} images could not be scored`);
      return failed > 0 ? 1 : 0;
    } finally {
      await Promise.all(rewards.map((r) => r.dispose()));
    }
  },
};

/** Prompts that are longer than a reward reads. */
class CutPrompts {
  readonly #found = new Map<string, { readonly tokens: number; readonly prompts: Set<string> }>();

  add({ name, promptTokens = 0 }: Reward["info"], prompt: string): void {
    const found = this.#found.get(name) ?? { tokens: promptTokens, prompts: new Set() };
    this.#found.set(name, found);
    found.prompts.add(prompt);
  }

  /** A line for each reward, on stderr. */
  say(): void {
    for (const [name, { tokens, prompts }] of this.#found) {
      const [first = ""] = prompts;
      const which = prompts.size === 1 ? "a longer one was" : `${prompts.size} longer ones were`;
      console.error(
        `Warning: ${name} reads ${tokens} tokens of a prompt; ${which} cut: "${cut(first, 60)}"`,
      );
    }
  }
}

/** What is wrong with one image, not with all that follow. */
function isOfInput(error: unknown): error is Error {
  return error instanceof RewardInputError ||
    (error instanceof StatusError && error.status === "INVALID_ARGUMENT");
}

/** Names of an input's images: its own, or with an index where it is a batch. */
function idsOf({ id }: ScoreInput, { shape: [batch = 1] }: Images): readonly string[] {
  return batch === 1 ? [id] : Array.from({ length: batch }, (_, i) => `${id}[${i}]`);
}

async function load(input: ScoreInput): Promise<Images> {
  return input.tensor === undefined
    ? await decodeImage(input.file)
    : await loadImageTensor(input.tensor === "" ? input.file : `${input.file}#${input.tensor}`);
}

async function scoreInput(
  input: ScoreInput,
  images: Images,
  { rewards, wanted, processing, cut, signal }: {
    readonly rewards: readonly Reward[];
    readonly wanted: boolean;
    /** Default: for pictures what the reward says, unless a gradient is wanted. */
    readonly processing: "tensor" | "reference" | undefined;
    readonly cut: CutPrompts;
    readonly signal: AbortSignal;
  },
): Promise<{ made: readonly Row[]; grads: readonly (readonly [string, Images])[] }> {
  const batch = images.shape[0] ?? 1;
  const columns = new Map<string, Float32Array>();
  const grads: (readonly [string, Images])[] = [];
  for (const reward of rewards) {
    const { name, readsPrompt } = reward.info;
    if (readsPrompt && input.prompt === undefined) {
      throw new UsageError(
        `Reward ${name} reads the prompt, and ${input.id} has none: give --prompt`,
      );
    }
    const prompts = new Array<string>(batch).fill(input.prompt ?? "");
    const natural = wanted || input.tensor !== undefined ? "tensor" : reward.info.fileProcessing;
    const result = await reward.score(images, prompts, {
      gradient: wanted,
      processing: processing ?? natural,
      signal,
    });
    columns.set(name, result.scores);
    if (result.truncated && input.prompt !== undefined) cut.add(reward.info, input.prompt);
    for (const [extra, values] of Object.entries(await reward.extras?.(images) ?? {})) {
      columns.set(`${name}.${extra}`, values);
    }
    if (result.gradient !== undefined) grads.push([name, result.gradient]);
  }
  const made = idsOf(input, images).map((id, i): Row => ({
    image: id,
    ...(input.prompt !== undefined && { prompt: input.prompt }),
    scores: Object.fromEntries([...columns].map(([name, v]) => [name, v[i] ?? NaN])),
  }));
  return { made, grads };
}

/** "gradient" for one image and one reward; else the reward's and the image's names joined by what tells them apart. */
function gradientName(
  reward: string,
  input: ScoreInput,
  { rewards, inputs }: {
    readonly rewards: readonly Reward[];
    readonly inputs: readonly ScoreInput[];
  },
): string {
  const parts = [
    ...(rewards.length > 1 ? [reward] : []),
    ...(inputs.length > 1 ? [input.id] : []),
  ];
  return parts.length === 0 ? "gradient" : parts.join("/");
}

/** Pictures with their names, prompts where they are not `shared` by all, and scores. */
async function tilesOf(
  images: Images,
  { rows, shared }: { readonly rows: readonly Row[]; readonly shared: string | undefined },
): Promise<readonly Tile[]> {
  const [, , height = 1, width = 1] = images.shape;
  const size = 3 * height * width;
  return await Promise.all(rows.map(async (row, i) => {
    const planes = images.data.subarray(i * size, (i + 1) * size);
    const pixels = new Uint8ClampedArray(size);
    for (let p = 0; p < height * width; p++) {
      for (let c = 0; c < 3; c++) pixels[3 * p + c] = 255 * (planes[c * height * width + p] ?? 0);
    }
    const image = await sharp(pixels, { raw: { width, height, channels: 3 } }).png().toBuffer();
    const scores = Object.entries(row.scores).map(([name, v]) => `${name} ${v.toPrecision(4)}`);
    const prompt = row.prompt === shared ? [] : [row.prompt ?? ""];
    return { image, lines: [basename(row.image), ...prompt, ...scores] };
  }));
}

function print(
  rows: readonly Row[],
  { rewards, table }: { readonly rewards: readonly Reward[]; readonly table: boolean },
): void {
  const columns = [...new Set(rows.flatMap((r) => Object.keys(r.scores)))];
  if (table) printTable(rows, columns);
  if (rows.length < 2) return;
  if (table) console.log("");
  for (const column of columns) {
    const { mean, low, high } = summarise(rows.flatMap((r) => r.scores[column] ?? []));
    const info = rewards.find((r) => r.info.name === column)?.info;
    console.log(
      `${column}: mean ${mean.toPrecision(6)}, 95 % confidence interval ${low.toPrecision(6)} to ` +
        `${high.toPrecision(6)}, n = ${rows.length}${
          info === undefined ? "" : ` (${info.direction})`
        }`,
    );
  }
}

function printTable(rows: readonly Row[], columns: readonly string[]): void {
  const width = rows.reduce((most, { image }) => Math.max(most, image.length), 5);
  const widths = columns.map((column) => Math.max(12, column.length));
  const line = (first: string, cells: readonly string[]) =>
    [first.padEnd(width), ...cells.map((cell, i) => cell.padStart(widths[i] ?? 12))].join("  ");
  console.log(line("image", columns));
  for (const { image, scores } of rows) {
    console.log(line(image, columns.map((column) => scores[column]?.toPrecision(6) ?? "")));
  }
}
