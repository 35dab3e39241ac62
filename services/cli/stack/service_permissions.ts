import { join } from "node:path";

/** What kind of service it is. */
export type ServiceKind = "reward" | "trainer" | "worker" | "gateway";

/** What a service is given to do its work, and nothing beside it. */
export interface ServiceNeeds {
  readonly kind: ServiceKind;
  /** "host:port" that it listens to or calls; "any" where callers say whom it calls. */
  readonly net: readonly string[] | "any";
  /** Files and folders beside the project's own. */
  readonly read: readonly string[];
  readonly write: readonly string[];
  /** The project's folder, where its modules and packages are. */
  readonly root: string;
  /** Deno's program. */
  readonly deno: string;
  /** Whether it asks NVIDIA's program for a GPU's memory. */
  readonly gpu: boolean;
}

/** What packages read at their start, and Deno throws where they may not: their names, of no one's secrets. */
const ENV = [
  "DRTUNE_ENDS_WITH_STDIN",
  ...["GRPC_*", "grpc_proxy", "no_grpc_proxy", "http_proxy", "https_proxy", "no_proxy"],
  // @bufbuild/protobuf, yaml.
  ...["BUF_BIGINT_DISABLE", "LOG_TOKENS", "LOG_STREAM"],
  // sharp.
  ...["MALLOC_ARENA_MAX", "PKG_CONFIG_PATH", "SHARP_*", "npm_package_config_libvips"],
  "CUDA_VISIBLE_DEVICES",
];

/** A priority of its own, the memory that a run may take, a name for who leads, a worker's processor. */
const SYS = ["getPriority", "setPriority", "systemMemoryInfo", "hostname", "cpus"];

/**
 * Deno's permission flags of a service. A gateway computes nothing: it starts no process and loads no native code. The
 * others start Deno itself, for the processes of models, and load sharp.
 */
export function servicePermissions(
  { kind, net, read, write, root, deno, gpu }: ServiceNeeds,
): readonly string[] {
  // /proc tells a service its memory, its limits and its threads; by ldd sharp's detect-libc knows which C library is
  // there (lib/detect-libc.js, familySync), and would otherwise ask for a report of the whole machine.
  const flags = [
    net === "any" ? "--allow-net" : flag("net", net),
    flag("read", [root, "/proc", "/usr/bin/ldd", ...read]),
    flag("env", ENV),
    flag("sys", SYS),
    ...write.length > 0 ? [flag("write", write)] : [],
  ];
  if (kind === "gateway") return flags;
  return [
    ...flags,
    flag("run", [deno, ...gpu ? ["nvidia-smi"] : []]),
    flag("ffi", [join(root, "node_modules"), join(root, ".cache", "cuda")]),
  ];
}

/** One flag. A comma in a value is written twice. */
function flag(name: string, values: readonly string[]): string {
  const list = [...new Set(values)].map((value) => value.replaceAll(",", ",,"));
  return `--allow-${name}=${list.join(",")}`;
}
