import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decodeLines } from "../../../base/mod.ts";
import { PRECISIONS } from "../../../compile/mod.ts";
import { PROVIDERS } from "../../../runtime/mod.ts";
import { SAMPLER_KINDS } from "../../../trainer/mod.ts";
import { type Arguments, type Command, UsageError } from "../command.ts";
import { contactSheet, type Tile } from "../picture/contact_sheet.ts";
import { Progress } from "../progress.ts";
import { type DrawnImage, type ImageRequest, localImages } from "../sample/mod.ts";
import { TRAINER_OPTIONS, trainerClient } from "../trainer/client.ts";
import { heldOutCount } from "../trainer/held_out_count.ts";
import { runIdOf } from "./runs.ts";

const [STEPS, IMAGES_AT_MOST] = [50, 4096];

/** Draws images with a LoRA. */
export const sample: Command = {
  name: "sample",
  summary: "Draw images with a LoRA: a file on a model folder, or a run of a trainer service",
  usage: "[RUN | --model DIR [--lora PATH]] [--prompt TEXT]... [--out DIR]",
  options: {
    model: {
      type: "string",
      value: "DIR",
      help: "diffusers folder or single file; draws here, without a service",
    },
    lora: {
      type: "string",
      value: "PATH",
      help: "LoRA in diffusers, PEFT or kohya names: a file, or the folder it was saved in",
    },
    "lora-scale": {
      type: "string",
      value: "X",
      help: "factor on the LoRA (default 1, or as the run's configuration says)",
    },
    compare: { type: "boolean", help: "draw everything without the LoRA too" },
    prompt: { type: "string", value: "TEXT", multiple: true, help: "a prompt; may be repeated" },
    prompts: { type: "string", value: "FILE", help: "prompts from a text file, one a line" },
    seed: { type: "string", value: "N", help: "seed of each prompt's first image (default 0)" },
    images: {
      type: "string",
      value: "N",
      help: "images of each prompt, seeds ascending (default 1)",
    },
    sampler: {
      type: "string",
      value: "NAME",
      help: `${SAMPLER_KINDS.join(", ")} (default ddpm, of a flow flow-euler, or the run's)`,
    },
    steps: { type: "string", value: "T", help: `denoising steps (default ${STEPS}, or the run's)` },
    eta: { type: "string", value: "X", help: "DDIM's noise, 0 (default) to 1" },
    karras: { type: "boolean", help: "dpmsolver++ with Karras' noise levels" },
    guidance: {
      type: "string",
      value: "X",
      help: `guidance, 1 for none (default 7.5, of a flow its family's, or the run's)`,
    },
    height: { type: "string", value: "PX", help: "height of the images (default: the model's)" },
    width: { type: "string", value: "PX", help: "width of the images (default: the model's)" },
    latents: {
      type: "string",
      value: "FILE#NAME",
      help: "noise to start from: a safetensors file's tensor [images, channels, h, w]",
    },
    step: { type: "string", value: "N", help: "the run's checkpoint (default: the newest)" },
    out: {
      type: "string",
      value: "DIR",
      help: "folder for PNG files and sheet.png (default samples)",
    },
    provider: { type: "string", value: "NAME", help: `${PROVIDERS.join(", ")} (default cpu)` },
    threads: { type: "string", value: "N", help: "threads of one operator (default: all cores)" },
    "memory-limit": {
      type: "string",
      value: "GIB",
      help: "memory of the model's process (default: half of this machine's, or 0.8 of the GPU's)",
    },
    precision: {
      type: "string",
      value: "NAME",
      help: `what networks but the VAE compute in, ${PRECISIONS.join(" or ")} (default float32)`,
    },
    ...TRAINER_OPTIONS,
  },
  examples: [
    'drtune sample --model zoo/pipeline --lora pytorch_lora_weights.safetensors --prompt "a fox, and books" --steps 20',
    "drtune sample --model zoo/pipeline --lora a.safetensors --lora-scale 0.7 --compare --prompts zoo/prompts/books_held_out.txt",
    'drtune sample books-1 --prompt "a fox, and books" --images 4',
  ],
  async run(args, signal) {
    const isLocal = args.text("model") !== undefined;
    if (isLocal && args.positionals.length > 0) {
      throw new UsageError(`Option --model and run "${args.positionals[0]}" exclude each other`);
    }
    const names = isLocal
      ? ["step", "endpoint", "token-file"]
      : ["lora", "height", "width", "latents", "provider", "threads", "memory-limit", "precision"];
    for (const name of names) {
      if (args.text(name) === undefined) continue;
      throw new UsageError(`Option --${name} goes ${isLocal ? "with a run" : "with --model"} only`);
    }
    const prompts = await promptsOf(args);
    const out = args.text("out") ?? "samples";
    await mkdir(out, { recursive: true });
    const sources = [
      ...(args.flag("compare") ? [{ heading: "Without LoRA", folder: "without", bare: true }] : []),
      { heading: args.flag("compare") ? "With LoRA" : "", folder: "", bare: false },
    ];
    const sections: { heading: string; tiles: Tile[] }[] = [];
    const files: { file: string; prompt: string; seed: number; lora: boolean }[] = [];
    const json = args.flag("json");
    const hasLora = !isLocal || args.text("lora") !== undefined;
    for (const { heading, folder, bare } of sources) {
      await mkdir(join(out, folder), { recursive: true });
      const tiles: Tile[] = [];
      const progress = new Progress({ quiet: json });
      const drawn = isLocal
        ? local(args, { prompts, bare, signal })
        : remote(args, { prompts, bare, signal });
      for await (const { image: { prompt, seed, png }, total } of drawn) {
        const file = join(out, folder, `${String(tiles.length).padStart(4, "0")}_seed${seed}.png`);
        await writeFile(file, png);
        files.push({ file, prompt, seed, lora: hasLora && !bare });
        tiles.push({ image: png, lines: [prompt, `seed ${seed}`] });
        progress.update({ done: tiles.length, total: Math.max(total, tiles.length) });
      }
      progress.end();
      sections.push({ heading, tiles });
    }
    const sheet = join(out, "sheet.png");
    const columns = Math.min(8, Math.max(...sections.map(({ tiles }) => tiles.length)));
    await writeFile(sheet, await contactSheet(sections, { columns }));
    if (json) console.log(JSON.stringify({ sheet, images: files }));
    else console.log(`${files.length} images in ${out}, all of them in ${sheet}`);
    return 0;
  },
};

interface Source {
  /** Empty: the run's held-out prompts. */
  readonly prompts: readonly string[];
  /** Without LoRA. */
  readonly bare: boolean;
  readonly signal: AbortSignal;
}

interface Drawn {
  readonly image: DrawnImage;
  /** How many there will be. */
  readonly total: number;
}

async function* local(
  args: Arguments,
  { prompts, bare, signal }: Source,
): AsyncGenerator<Drawn> {
  if (prompts.length === 0) throw new UsageError("Give --prompt or --prompts");
  const requests = requestsOf(prompts, args);
  const pixels = { min: 8, max: 8192, integer: true };
  const images = localImages(requests, {
    model: args.required("model"),
    lora: bare ? undefined : args.text("lora"),
    loraScale: loraScale(args) ?? 1,
    sampler: {
      kind: kindOf(args),
      steps: stepsOf(args) ?? STEPS,
      eta: etaOf(args),
      karrasSigmas: args.flag("karras") || undefined,
    },
    guidance: guidanceOf(args),
    height: args.number("height", pixels),
    width: args.number("width", pixels),
    latents: args.text("latents"),
    provider: args.oneOf("provider", PROVIDERS),
    precision: args.oneOf("precision", PRECISIONS) ?? "float32",
    threads: args.number("threads", { min: 1, max: 1024, integer: true }),
    onRemark: (remark) => bare || console.error(`Warning: ${remark}`),
    memoryLimit: args.number("memory-limit", { min: 0.25, max: 65_536 }),
    signal,
  });
  for await (const image of images) yield { image, total: requests.length };
}

async function* remote(
  args: Arguments,
  { prompts, bare, signal }: Source,
): AsyncGenerator<Drawn> {
  const runId = runIdOf(args);
  const client = await trainerClient(args);
  try {
    const step = bare ? 0 : args.number("step", { min: 0, integer: true });
    const [scale, guidance] = [loraScale(args), guidanceOf(args)];
    const [steps, eta] = [stepsOf(args), etaOf(args)];
    const imagesPerPrompt = imagesOf(args);
    const messages = client.sample({
      runId,
      prompts: [...prompts],
      seed: seedOf(args),
      imagesPerPrompt,
      sampler: {
        kind: kindOf(args) ?? "",
        ...(steps !== undefined && { steps }),
        ...(eta !== undefined && { eta }),
        ...(args.flag("karras") && { karrasSigmas: true }),
      },
      ...(step !== undefined && { step }),
      ...(scale !== undefined && { loraScale: scale }),
      ...(guidance !== undefined && { guidanceScale: guidance }),
    }, { signal });
    const count = prompts.length || (await heldOutCount(client, { runId, signal })).count;
    let remarked = bare;
    for await (const { prompt, seed, png, remark } of messages) {
      if (remark !== "" && !remarked) {
        console.error(`Warning: ${remark}`);
        remarked = true;
      }
      yield { image: { prompt, seed, png }, total: count * imagesPerPrompt };
    }
  } finally {
    client.close();
  }
}

async function promptsOf(args: Arguments): Promise<readonly string[]> {
  const file = args.text("prompts");
  const given = args.list("prompt");
  const read = file === undefined ? [] : decodeLines(await readFile(file), file);
  if (file !== undefined && read.length === 0) throw new UsageError(`${file} holds no prompt`);
  return [...given, ...read];
}

function requestsOf(prompts: readonly string[], args: Arguments): ImageRequest[] {
  const [seed, images] = [seedOf(args), imagesOf(args)];
  if (prompts.length * images > IMAGES_AT_MOST) {
    throw new UsageError(
      `Option --images asks for ${
        prompts.length * images
      } images, expected at most ${IMAGES_AT_MOST}`,
    );
  }
  return prompts.flatMap((prompt) =>
    Array.from({ length: images }, (_, i) => ({ prompt, seed: seed + i }))
  );
}

const seedOf = (args: Arguments) =>
  args.number("seed", { min: 0, max: 2 ** 32 - 1, integer: true }) ?? 0;
const imagesOf = (args: Arguments) =>
  args.number("images", { min: 1, max: IMAGES_AT_MOST, integer: true }) ?? 1;
const stepsOf = (args: Arguments) => args.number("steps", { min: 1, max: 1000, integer: true });
const etaOf = (args: Arguments) => args.number("eta", { min: 0, max: 1 });
const guidanceOf = (args: Arguments) => args.number("guidance", { min: 0, max: 100 });
const loraScale = (args: Arguments) => args.number("lora-scale", { min: -10, max: 10 });

function kindOf(args: Arguments) {
  const name = args.text("sampler");
  if (name === undefined) return undefined;
  const kind = SAMPLER_KINDS.find((k) => k === name);
  if (kind !== undefined) return kind;
  throw new UsageError(`Option --sampler is "${name}", expected ${SAMPLER_KINDS.join(", ")}`);
}
