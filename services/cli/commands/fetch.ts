import { stat } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { getHFHubCachePath } from "@huggingface/hub";
import { type Command, UsageError } from "../command.ts";
import { checkSpace, gigabytes } from "../fetch/check_space.ts";
import { chooseFiles } from "../fetch/choose_files.ts";
import { download } from "../fetch/download.ts";
import { type Hub, HubError, type HubFile, hubOf, listRepository } from "../fetch/hub.ts";
import { KNOWN_MODELS } from "../fetch/known_models.ts";
import { Progress } from "../progress.ts";
import { EMBEDDED_STACK, readStack, stackFile } from "../stack/read_stack.ts";
import { nearest } from "../../../base/mod.ts";

/** A repository, and what of it is wanted. */
interface Order {
  readonly repo: string;
  readonly revision: string;
  readonly patterns?: readonly string[] | undefined;
}

interface Listed extends Order {
  readonly commit: string;
  readonly files: readonly HubFile[];
}

/** Brings weights here: the only command that downloads any. */
export const fetchModel: Command = {
  name: "fetch",
  summary: "Download a model or a reward's weights, by a known name or as OWNER/NAME",
  usage: "NAME... [--to DIR]",
  options: {
    to: {
      type: "string",
      value: "DIR",
      help:
        "folder of all models, each gets a folder in it (default: of the stack in the current folder, else weights)",
    },
    revision: { type: "string", value: "REV", help: "branch, tag or commit (default main)" },
    variant: { type: "string", value: "NAME", help: 'of weights that come in several, as "fp16"' },
    include: {
      type: "string",
      value: "GLOB",
      multiple: true,
      help: "files to take instead of those that are read here; may be repeated",
    },
    "dry-run": { type: "boolean", help: "list the files and their sizes and download none" },
    json: { type: "boolean", help: "print JSON" },
  },
  examples: [
    "drtune fetch",
    "drtune fetch sd15 hpsv2.1 --to /data/models",
    "drtune fetch SimianLuo/LCM_Dreamshaper_v7 --variant fp16",
  ],
  async run(args, signal) {
    if (args.positionals.length === 0) {
      console.log(args.flag("json") ? JSON.stringify(KNOWN_MODELS) : table());
      return 0;
    }
    const hub = hubOf(Deno.env);
    const root = args.text("to") ?? await modelsFolder();
    const [revision, variant] = [args.text("revision") ?? "main", args.text("variant")];
    const include = args.list("include");
    const json = args.flag("json");
    for (const name of args.positionals) {
      const orders = ordersOf(name, {
        revision,
        patterns: include.length > 0 ? include : undefined,
      });
      const folder = join(root, name.replace("/", "--"));
      const listed = await Promise.all(orders.map(async (order): Promise<Listed> => {
        const { commit, files } = await listRepository(hub, { ...order, signal });
        const chosen = chooseFiles(files, { patterns: order.patterns, variant });
        if (chosen.length > 0) return { ...order, commit, files: chosen };
        throw new HubError(
          `${order.repo} holds no file ${(order.patterns ?? []).join(", ") || "that is read here"}`,
        );
      }));
      if (args.flag("dry-run")) {
        for (const { repo, commit, files } of listed) {
          if (json) console.log(JSON.stringify({ repo, commit, files }));
          else console.log([`${repo} at ${commit}`, ...files.map(fileLine)].join("\n"));
        }
        continue;
      }
      await bring(hub, listed, { folder, quiet: json, signal });
      console.log(
        json
          ? JSON.stringify({ name, folder: resolve(folder) })
          : `${name} is in ${relativePath(folder)}`,
      );
    }
    return 0;
  },
};

/** From the current folder, where it is below that. */
function relativePath(folder: string): string {
  const path = relative(".", folder);
  return path.startsWith("..") ? folder : path;
}

/** Where runs of the stack that is meant here look for models. The embedded stack's folder is the project's own. */
async function modelsFolder(): Promise<string> {
  const file = await stackFile(undefined);
  return file === EMBEDDED_STACK ? "weights" : (await readStack(file)).models;
}

async function bring(
  hub: Hub,
  listed: readonly Listed[],
  { folder, quiet, signal }: {
    readonly folder: string;
    readonly quiet: boolean;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const files = listed.flatMap((l) => l.files);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const here = await Promise.all(
    files.map(({ path }) => stat(join(folder, path)).then(({ size }) => size, () => 0)),
  );
  const free = await checkSpace(folder, total - here.reduce((sum, size) => sum + size, 0));
  const progress = new Progress({ quiet });
  progress.say(
    `${relativePath(folder)}: ${files.length} files, ${gigabytes(total)} GB; ${
      gigabytes(free)
    } GB of the disk are free`,
  );
  let done = 0;
  for (const { repo, commit, files } of listed) {
    for (const file of files) {
      const outcome = await download(hub, {
        repo,
        commit,
        file,
        path: join(folder, file.path),
        known: cached(repo, { commit, file }),
      }, {
        signal,
        onBytes: (count) => {
          done += count;
          progress.updateBytes({ done, total, note: file.path });
        },
      });
      if (outcome === "linked") progress.say(`${file.path} was in the hub's cache of this machine`);
    }
  }
  progress.end();
  const sources = listed.map(({ repo, commit, files }) => ({ repo, commit, files }));
  await Deno.writeTextFile(
    join(folder, "fetched.json"),
    `${JSON.stringify({ hub: hub.url, sources }, undefined, 2)}\n`,
  );
}

function ordersOf(
  name: string,
  { revision, patterns }: {
    readonly revision: string;
    readonly patterns: readonly string[] | undefined;
  },
): readonly Order[] {
  const known = Object.hasOwn(KNOWN_MODELS, name) ? KNOWN_MODELS[name] : undefined;
  if (known !== undefined) {
    const { repo, files, with: other } = known;
    return [
      { repo, revision, patterns: patterns ?? files },
      ...(other === undefined
        ? []
        : [{ repo: other.repo, revision: "main", patterns: other.files }]),
    ];
  }
  if (/^[\w.-]+\/[\w.-]+$/.test(name) && !name.includes("..")) {
    return [{ repo: name, revision, patterns }];
  }
  const meant = nearest(name, Object.keys(KNOWN_MODELS));
  const hint = meant === undefined ? "" : `, did you mean ${meant}?`;
  throw new UsageError(
    `Model is ${JSON.stringify(name)}, expected OWNER/NAME or one of ${
      Object.keys(KNOWN_MODELS).join(", ")
    }${hint}`,
  );
}

/** Where copies would lie that the hub's own programs downloaded. */
function cached(
  repo: string,
  { commit, file }: { readonly commit: string; readonly file: HubFile },
): readonly string[] {
  const folder = join(getHFHubCachePath(), `models--${repo.replace("/", "--")}`);
  return [join(folder, "blobs", file.digest.hex), join(folder, "snapshots", commit, file.path)];
}

function fileLine({ path, size }: HubFile): string {
  return `  ${(size / 1e6).toFixed(1).padStart(9)} MB  ${path}`;
}

function table(): string {
  const rows = Object.entries(KNOWN_MODELS).map((
    [name, { repo, about, licence, size, isGated }],
  ) => [
    name,
    size < 1e9 ? `${Math.ceil(size / 1e6)} MB` : `${(size / 1e9).toFixed(1)} GB`,
    isGated ? `${licence}; asks for HF_TOKEN` : licence,
    repo,
    about,
  ]);
  const all = [["name", "size", "licence", "repository", "what it is"], ...rows];
  const widths = all[0]?.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0))) ?? [];
  return all.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd())
    .join("\n");
}
