import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, extname } from "node:path";
import sharp from "sharp";
import type { TensorOf } from "../../../autodiff/mod.ts";
import { writeSafetensors } from "../../../models/weights/mod.ts";
import { decodeImage, type Images, loadImageTensor, type Reward } from "../../../rewards/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { contactSheet, type Tile } from "../picture/contact_sheet.ts";
import { Progress } from "../progress.ts";
import { csvLine, parseCsv } from "../score/csv.ts";
import { resolveInputs, type ScoreInput } from "../score/inputs.ts";
import { openRewards } from "../score/rewards.ts";
import { summarise } from "../../common/mod.ts";

/** One image's scores. */
interface Row {
  readonly image: string;
  readonly prompt?: string;
  readonly scores: Readonly<Record<string, number>>;
}

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
        "symmetry, jpeg, clip, pickscore, hpsv2, aesthetic, owlvit; or a JSON record; may be repeated",
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
    image: {
      type: "string",
      multiple: true,
      value: "PATH",
      help:
        "picture, folder, glob, file.safetensors#name, or .csv/.jsonl list with image and prompt",
    },
    prompt: { type: "string", value: "TEXT", help: "prompt of all images that bring none" },
    gradient: { type: "string", value: "FILE", help: "write d score / d image as safetensors" },
    processing: {
      type: "string",
      value: "NAME",
      help: "tensor (default, exact) or reference (8 bits, as the Python processors)",
    },
    endpoint: { type: "string", value: "HOST:PORT", help: "ask a running reward service" },
    out: {
      type: "string",
      value: "FILE",
      help: "append rows to a .jsonl or .csv file; images in it are skipped",
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
  ],
  async run(args, signal) {
    const names = [...args.list("image"), ...args.positionals];
    if (names.length === 0) throw new UsageError("Name images: --image PATH");
    const processing = args.text("processing") ?? "tensor";
    if (processing !== "tensor" && processing !== "reference") {
      throw new UsageError(`Option --processing is "${processing}", expected tensor or reference`);
    }
    const inputs = await resolveInputs(names, args.text("prompt"));
    const out = args.text("out");
    const kind = out === undefined ? undefined : extname(out).toLowerCase();
    if (kind !== undefined && kind !== ".csv" && kind !== ".jsonl") {
      throw new UsageError(`Option --out is "${out}", expected a .csv or .jsonl file`);
    }
    const rewards = await openRewards(args);
    const json = args.flag("json");
    const progress = new Progress({ quiet: json });
    try {
      const labels = rewards.map((r) => r.info.name);
      const done = out === undefined ? new Map() : await readDone(out, labels);
      const table = out === undefined ? undefined : await openTable(out, labels);
      const rows: Row[] = [];
      const gradients: Record<string, TensorOf<"float32">> = {};
      const tiles: Tile[] = [];
      let count = 0;
      for (const input of inputs) {
        signal.throwIfAborted();
        const known = done.get(`${input.id}\n${input.prompt ?? ""}`);
        if (known !== undefined) {
          rows.push(known);
        } else {
          const images = await load(input);
          const wanted = args.text("gradient") !== undefined;
          const { made, grads } = await scoreInput(input, images, {
            rewards,
            wanted,
            processing,
            signal,
          });
          for (const row of made) await table?.(row);
          rows.push(...made);
          if (json) { for (const row of made) console.log(JSON.stringify(row)); }
          for (const [name, g] of grads) {
            gradients[gradientName(name, input, { rewards, inputs })] = g;
          }
          if (args.text("sheet") !== undefined) tiles.push(...await tilesOf(images, made));
        }
        progress.update({ done: ++count, total: inputs.length });
      }
      progress.end();
      const file = args.text("gradient");
      if (file !== undefined) await writeSafetensors(file, gradients);
      const sheet = args.text("sheet");
      if (sheet !== undefined) {
        await writeFile(sheet, await contactSheet([{ heading: "", tiles }], { columns: 5 }));
      }
      if (!json) print(rows, rewards);
      return 0;
    } finally {
      await Promise.all(rewards.map((r) => r.dispose()));
    }
  },
};

async function load(input: ScoreInput): Promise<Images> {
  return input.tensor === undefined
    ? await decodeImage(input.file)
    : await loadImageTensor(`${input.file}#${input.tensor}`);
}

async function scoreInput(
  input: ScoreInput,
  images: Images,
  { rewards, wanted, processing, signal }: {
    readonly rewards: readonly Reward[];
    readonly wanted: boolean;
    readonly processing: "tensor" | "reference";
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
    const result = await reward.score(images, prompts, { gradient: wanted, processing, signal });
    columns.set(name, result.scores);
    for (const [extra, values] of Object.entries(await reward.extras?.(images) ?? {})) {
      columns.set(`${name}.${extra}`, values);
    }
    if (result.gradient !== undefined) grads.push([name, result.gradient]);
  }
  const made = Array.from({ length: batch }, (_, i): Row => ({
    image: batch === 1 ? input.id : `${input.id}[${i}]`,
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

async function readDone(file: string, labels: readonly string[]): Promise<Map<string, Row>> {
  const text = await readFile(file, "utf8").catch(() => "");
  const rows = extname(file).toLowerCase() === ".csv" ? csvRows(text) : jsonlRows(text);
  const whole = rows.filter((r) => labels.every((l) => r.scores[l] !== undefined));
  return new Map(whole.map((r) => [`${r.image}\n${r.prompt ?? ""}`, r]));
}

function csvRows(text: string): Row[] {
  const [header = [], ...lines] = parseCsv(text);
  return lines.filter((l) => l.length === header.length).map((cells) => {
    const [image = "", prompt = "", ...values] = cells;
    const scores = values.flatMap((v, i) =>
      v === "" ? [] : [[header[i + 2] ?? "", Number(v)] as const]
    );
    return { image, ...(prompt !== "" && { prompt }), scores: Object.fromEntries(scores) };
  });
}

function jsonlRows(text: string): Row[] {
  return text.split("\n").flatMap((line) => {
    try {
      const row: unknown = JSON.parse(line);
      return isRow(row) ? [row] : [];
    } catch {
      // The last line of an interrupted run may be cut short.
      return [];
    }
  });
}

function isRow(value: unknown): value is Row {
  return typeof value === "object" && value !== null && "image" in value && "scores" in value &&
    typeof value.image === "string" && typeof value.scores === "object" && value.scores !== null;
}

/** Appends rows one by one, so that an interrupted run loses nothing. */
async function openTable(file: string, labels: readonly string[]) {
  await mkdir(dirname(file), { recursive: true });
  if (extname(file).toLowerCase() === ".jsonl") {
    return (row: Row) => appendFile(file, `${JSON.stringify(row)}\n`);
  }
  const text = await readFile(file, "utf8").catch(() => "");
  const [header] = parseCsv(text);
  const columns = header?.slice(2) ?? labels;
  if (labels.some((l) => !columns.includes(l))) {
    throw new UsageError(
      `${file} has columns ${columns.join(", ")}, expected ${labels.join(", ")}`,
    );
  }
  if (header === undefined) await appendFile(file, `${csvLine(["image", "prompt", ...columns])}\n`);
  return (row: Row) =>
    appendFile(
      file,
      `${csvLine([row.image, row.prompt ?? "", ...columns.map((c) => row.scores[c] ?? "")])}\n`,
    );
}

async function tilesOf(images: Images, rows: readonly Row[]): Promise<readonly Tile[]> {
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
    return { image, lines: [row.prompt ?? row.image, ...scores] };
  }));
}

function print(rows: readonly Row[], rewards: readonly Reward[]): void {
  const columns = [...new Set(rows.flatMap((r) => Object.keys(r.scores)))];
  const width = Math.max(5, ...rows.map((r) => r.image.length));
  console.log(["image".padEnd(width), ...columns.map((c) => c.padStart(12))].join("  "));
  for (const row of rows) {
    const cells = columns.map((c) => (row.scores[c]?.toPrecision(6) ?? "").padStart(12));
    console.log([row.image.padEnd(width), ...cells].join("  "));
  }
  if (rows.length < 2) return;
  console.log("");
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
