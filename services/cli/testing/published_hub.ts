import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type HubFiles, type SmallHub, startHubOf } from "../fetch/testing/small_hub.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Tiny models of this project in the formats of published ones, by the repository that they stand for. */
const STAND_INS: Readonly<Record<string, string>> = {
  "stable-diffusion-v1-5/stable-diffusion-v1-5": "tests/golden/tiny-sd",
  "yuvalkirstain/PickScore_v1": "zoo/rewards/pickscore",
  "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "zoo/rewards/pickscore",
};

/** A hub on this machine that serves the stand-ins under the published names. */
export async function startPublishedHub(): Promise<SmallHub> {
  const repositories: Record<string, HubFiles> = {};
  for (const [repo, folder] of Object.entries(STAND_INS)) {
    const names = await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true });
    const files = names.filter((entry) => entry.isFile()).map((entry) =>
      join(entry.parentPath, entry.name)
    );
    repositories[repo] = Object.fromEntries(
      await Promise.all(
        files.map(async (path) =>
          [path.slice(join(ROOT, folder).length + 1), new Uint8Array(await readFile(path))] as const
        ),
      ),
    );
  }
  return startHubOf(repositories);
}
