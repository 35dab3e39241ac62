import { copyFile, link, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { unzipMembers } from "../../../models/weights/mod.ts";
import { CUDA_PROVIDER } from "../../../runtime/mod.ts";
import { download, type Patience } from "../fetch/download.ts";
import { type Hub, HubError } from "../fetch/hub.ts";
import type { CudaWheel } from "./cuda_wheels.ts";
import { findWheel } from "./wheel_index.ts";

/** What a folder of libraries holds: of each project its version and the libraries that were taken. */
const installedSchema = z.record(
  z.string(),
  z.object({ version: z.string(), libraries: z.array(z.string()).min(1) }),
);
type Installed = z.infer<typeof installedSchema>;

/** How an installation is watched. */
export interface InstallOptions {
  readonly signal: AbortSignal;
  /** Called before a wheel of so many bytes comes, which waits for the answer; what it throws ends the installation. */
  readonly onWheel: (wheel: CudaWheel, size: number) => void | Promise<void>;
  readonly onBytes: (count: number) => void;
  readonly patience?: Patience;
}

/**
 * Brings the libraries of some wheels into `folder`/lib, and links those of the provider into the runtime's own folder.
 * Each wheel must have its digest; what came of one that broke off is kept, what is there is not fetched again, and a
 * wheel goes once its libraries are unpacked. Throws `HubError` or `WeightsError`; what was there before still is.
 */
export async function installCuda(
  index: Hub,
  { wheels, folder, binding }: {
    readonly wheels: readonly CudaWheel[];
    readonly folder: string;
    readonly binding: string;
  },
  options: InstallOptions,
): Promise<void> {
  const lib = join(folder, "lib");
  await mkdir(lib, { recursive: true });
  let installed = await readInstalled(folder);
  for (const wheel of wheels) {
    if (await isInstalled(wheel, { installed, lib })) continue;
    const libraries = await installWheel(index, { wheel, folder, lib }, options);
    installed = { ...installed, [wheel.project]: { version: wheel.version, libraries } };
    await writeFile(join(folder, "installed.json"), `${JSON.stringify(installed, null, 2)}\n`);
  }
  for (const name of CUDA_PROVIDER) {
    const target = join(binding, name);
    await rm(target, { force: true });
    await link(join(lib, name), target).catch(() => copyFile(join(lib, name), target));
  }
}

async function installWheel(
  index: Hub,
  { wheel, folder, lib }: {
    readonly wheel: CudaWheel;
    readonly folder: string;
    readonly lib: string;
  },
  { signal, onWheel, onBytes, patience }: InstallOptions,
): Promise<string[]> {
  const { url, size } = await findWheel(index, wheel, signal);
  await onWheel(wheel, size);
  const path = join(folder, wheel.file);
  await download(index, {
    repo: wheel.project,
    commit: wheel.version,
    file: { path: wheel.file, size, digest: { kind: "sha256", hex: wheel.sha256 } },
    url,
    path,
  }, { signal, onBytes, ...(patience && { patience }) });
  const written = await unzipMembers(path, (name) => {
    const own = basename(name);
    return wheel.members.test(own) ? join(lib, own) : undefined;
  });
  if (written.length === 0) throw new HubError(`${wheel.file} holds no library ${wheel.members}`);
  await rm(path);
  return written.map((file) => basename(file));
}

async function isInstalled(
  { project, version }: CudaWheel,
  { installed, lib }: { readonly installed: Installed; readonly lib: string },
): Promise<boolean> {
  const found = installed[project];
  if (found?.version !== version) return false;
  const there = found.libraries.map((name) =>
    stat(join(lib, name)).then((s) => s.isFile(), () => false)
  );
  return (await Promise.all(there)).every(Boolean);
}

/** Nothing, where the file is not there or not what this version writes: then all is fetched anew. */
async function readInstalled(folder: string): Promise<Installed> {
  const text = await readFile(join(folder, "installed.json"), "utf8").catch(() => "{}");
  try {
    return installedSchema.parse(JSON.parse(text));
  } catch {
    return {};
  }
}
