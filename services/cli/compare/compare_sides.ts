import { readFile } from "node:fs/promises";
import { basename, extname } from "node:path";
import { UsageError } from "../command.ts";
import { Progress } from "../progress.ts";
import { resolveInputs } from "../score/inputs.ts";
import {
  type Contestant,
  drawn,
  type DrawSettings,
  pictureFiles,
  pictureOf,
  type Wanted,
} from "./contestants.ts";
import type { ListedPrompt } from "./prompt_list.ts";

/** Pictures of both sides, in one order. */
export interface SidedPictures {
  readonly wanted: readonly (ListedPrompt & Wanted)[];
  readonly a: readonly Uint8Array[];
  readonly b: readonly Uint8Array[];
}

/** Draws both sides, or reads their files, picture for picture of the same prompt and seed. */
export async function picturesOfSides(
  sides: readonly [Contestant, Contestant],
  { listed, seed, imagesPerPrompt, settings }: {
    /** Undefined: those of the folders' pictures. */
    readonly listed: readonly ListedPrompt[] | undefined;
    readonly seed: number;
    readonly imagesPerPrompt: number;
    readonly settings: DrawSettings;
  },
): Promise<SidedPictures> {
  const isFolder = sides.some(({ kind }) => kind === "pictures");
  if (isFolder && imagesPerPrompt > 1) {
    throw new UsageError(
      "Option --images is for what draws here: a folder of pictures has one of each prompt",
    );
  }
  const prompts = listed ?? await promptsOfFolders(sides);
  const wanted = prompts.flatMap((entry) =>
    Array.from({ length: imagesPerPrompt }, (_, i) => ({ ...entry, seed: seed + i }))
  );
  const progress = new Progress();
  const [first, second] = sides;
  const read = async (side: Contestant) => {
    progress.say(side.kind === "pictures" ? `Reading ${side.name}` : `Drawing ${side.name}`);
    if (side.kind === "pictures") return await readPictures(side.folder, wanted);
    const images: Uint8Array[] = [];
    for await (const image of drawn(side, wanted, settings)) {
      images.push(image);
      progress.update({ done: images.length, total: wanted.length });
    }
    progress.end();
    return images;
  };
  const [a, b] = [await read(first), await read(second)];
  // A side may have only a part of a benchmark: what both have is compared.
  const both = wanted.flatMap((entry, i) => {
    const [left, right] = [a[i], b[i]];
    return left && right ? [{ entry, left, right }] : [];
  });
  if (both.length === 0) {
    throw new UsageError(`${first.name} and ${second.name} have no picture of the same prompt`);
  }
  if (both.length < wanted.length) {
    progress.say(`${both.length} of ${wanted.length} prompts have pictures on both sides`);
  }
  return {
    wanted: both.map(({ entry }) => entry),
    a: both.map(({ left }) => left),
    b: both.map(({ right }) => right),
  };
}

/** Prompts that folders' lists or caption files give their pictures; the file's name is the key. */
async function promptsOfFolders(sides: readonly Contestant[]): Promise<readonly ListedPrompt[]> {
  const folder = sides.find((side) => side.kind === "pictures");
  if (folder?.kind !== "pictures") {
    throw new UsageError("Name prompts: --prompts FILE or --benchmark FOLDER");
  }
  const inputs = await resolveInputs([folder.folder], undefined);
  return inputs.map(({ file, prompt = "" }, index) => ({
    ...{ prompt, index, category: "all", file: basename(file, extname(file)) },
  }));
}

async function readPictures(
  folder: string,
  wanted: readonly ListedPrompt[],
): Promise<readonly (Uint8Array | undefined)[]> {
  const files = await pictureFiles(folder);
  return await Promise.all(wanted.map(async (entry) => {
    const file = pictureOf(files, entry);
    return file === undefined ? undefined : await readFile(file);
  }));
}
