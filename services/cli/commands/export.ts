import { createHash } from "node:crypto";
import { mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openSafetensors } from "../../../models/weights/mod.ts";
import { LoraFormat, LoraPrecision, type TrainerService } from "../../../proto/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { TRAINER_OPTIONS, trainerClient } from "../trainer/client.ts";
import { runIdOf } from "./runs.ts";

const FORMATS = new Map([
  ["diffusers", LoraFormat.DIFFUSERS],
  ["kohya", LoraFormat.KOHYA],
  ["peft", LoraFormat.PEFT],
]);
const PRECISIONS = new Map([
  ["float32", LoraPrecision.FLOAT32],
  ["float16", LoraPrecision.FLOAT16],
]);

/** Writes a run's LoRA to a file. */
export const exportLora: Command = {
  name: "export",
  summary: "Write a run's LoRA as a safetensors file that other tools load",
  usage: "RUN [--out PATH] [--format diffusers|kohya|peft]",
  options: {
    out: {
      type: "string",
      value: "PATH",
      help: "where to; of peft a folder (default: the name the trainer suggests, or RUN-peft)",
    },
    format: { type: "string", value: "NAME", help: "diffusers (default), kohya or peft" },
    precision: { type: "string", value: "TYPE", help: "float32 (default) or float16" },
    step: { type: "string", value: "N", help: "checkpoint to export (default: the newest)" },
    ...TRAINER_OPTIONS,
  },
  examples: [
    "drtune export books-1",
    "drtune export books-1 --format kohya --out books.safetensors",
    "drtune export books-1 --format peft --out books/",
  ],
  async run(args, signal) {
    const step = args.number("step", { min: 0, integer: true });
    const client = await trainerClient(args);
    try {
      const runId = runIdOf(args);
      const format = choice(FORMATS, args.text("format") ?? "diffusers", "format");
      const download = format === LoraFormat.PEFT ? downloadPeftFolder : downloadLora;
      const file = await download(client, {
        runId,
        format,
        precision: choice(PRECISIONS, args.text("precision") ?? "float32", "precision"),
        ...(step !== undefined && { step }),
        ...(args.text("out") !== undefined && { out: args.required("out") }),
        signal,
      });
      console.log(args.flag("json") ? JSON.stringify(file) : file.path);
      if (file.loraScale !== 1) console.error(`Draw with it at scale ${file.loraScale}`);
      return 0;
    } finally {
      client.close();
    }
  },
};

function choice<T>(table: ReadonlyMap<string, T>, name: string, option: string): T {
  const value = table.get(name);
  if (value === undefined) {
    throw new UsageError(
      `Option --${option} is "${name}", expected ${[...table.keys()].join(" or ")}`,
    );
  }
  return value;
}

/** Downloads a LoRA as a folder for PEFT: the file, and beside it the configuration that its header holds. */
async function downloadPeftFolder(
  client: GrpcClient<typeof TrainerService>,
  options: DownloadOptions,
): Promise<DownloadedLora> {
  const { out = `${options.runId}-peft` } = options;
  await mkdir(out, { recursive: true });
  const file = await downloadLora(client, {
    ...options,
    out: join(out, "adapter_model.safetensors"),
  });
  const config = openSafetensors(file.path).metadata.get("adapter_config");
  if (config === undefined) throw new Error(`${file.path} has no adapter_config in its header`);
  const text = `${JSON.stringify(JSON.parse(config), null, 2)}\n`;
  await writeFile(join(out, "adapter_config.json"), text);
  return { ...file, path: out };
}

/** What is to be downloaded, and where to. */
export interface DownloadOptions {
  readonly runId: string;
  readonly format: LoraFormat;
  readonly precision?: LoraPrecision;
  readonly step?: number;
  readonly out?: string;
  readonly signal?: AbortSignal;
}

/** What was downloaded. */
export interface DownloadedLora {
  readonly path: string;
  readonly step: number;
  readonly sha256: string;
  /** Factor to draw it with. */
  readonly loraScale: number;
}

/** Downloads a LoRA file; it appears under its name only when it is whole and its digest agrees. */
export async function downloadLora(
  client: GrpcClient<typeof TrainerService>,
  { runId, format, precision = LoraPrecision.FLOAT32, step, out, signal }: DownloadOptions,
): Promise<DownloadedLora> {
  const request = { runId, format, precision, ...(step !== undefined && { step }) };
  const hash = createHash("sha256");
  let expected = { path: out ?? "", step: 0, sha256: "", loraScale: 1 };
  let partial:
    | { readonly path: string; readonly file: Awaited<ReturnType<typeof open>> }
    | undefined;
  try {
    for await (
      const { part } of client.exportLora(request, signal === undefined ? {} : { signal })
    ) {
      if (part.case === "file") {
        const { name, step, sha256, loraScale } = part.value;
        // A name from the network is a name, not a path.
        const path = out ?? name.replaceAll(/[^A-Za-z0-9._-]/g, "_");
        expected = { path, step, sha256, loraScale };
        await mkdir(dirname(path), { recursive: true });
        partial = { path: `${path}.partial`, file: await open(`${path}.partial`, "w") };
      } else if (part.case === "data") {
        hash.update(part.value);
        await partial?.file.writeFile(part.value);
      }
    }
    if (partial === undefined) throw new Error("The trainer sent no file");
    await partial.file.sync();
    await partial.file.close();
    const found = hash.digest("hex");
    if (found !== expected.sha256) {
      throw new Error(`The file arrived with sha256 ${found}, expected ${expected.sha256}`);
    }
    await rename(partial.path, expected.path);
    return expected;
  } catch (error) {
    if (partial !== undefined) {
      await partial.file.close().catch(() => {});
      await rm(partial.path, { force: true });
    }
    throw error;
  }
}
