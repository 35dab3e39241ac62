import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { writeHollowSafetensors } from "../weights/mod.ts";
import { networksOf } from "./networks_of.ts";
import { PUBLISHED_PIPELINES, type PublishedPipeline } from "./pipelines.ts";
import { storedAs } from "./stored_as.ts";

/**
 * Writes a published pipeline's folder without its weights: files of configuration, and weight files that say all names,
 * shapes and element types and whose data is a hole. What only reads shapes, as an estimate does, reads it like the
 * pipeline; there are no tokenizers.
 */
export async function writeOutline(folder: string, name: PublishedPipeline): Promise<void> {
  const files = PUBLISHED_PIPELINES[name];
  for (const [path, value] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), JSON.stringify(value));
  }
  for (const { file, shapes } of networksOf(files)) {
    const dtype = storedAs(name, file);
    await writeHollowSafetensors(
      join(folder, file),
      new Map([...shapes].map(([weight, shape]) => [weight, { dtype, shape }])),
    );
  }
}
