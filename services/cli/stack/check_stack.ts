import { access, constants, mkdir, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { fieldPosition, readClientTls, readServerTls, readToken } from "../../launch/mod.ts";
import type { Stack } from "./read_stack.ts";
import { stackListeners } from "./stack_schema.ts";

/** Something about this machine that a stack does not get along with. */
export interface Problem {
  /** Errors keep the stack from starting. */
  readonly severity: "error" | "warning";
  /** "file:line: field". */
  readonly where: string;
  /** What is wrong. */
  readonly message: string;
  /** What to do about it. */
  readonly advice: string;
}

type Key = string | number;
type Find = Omit<Problem, "where"> & { readonly keys: readonly Key[] };

/** Less is refused: a checkpoint of a large model's LoRA and its logs would not fit. */
const LEAST_BYTES = 256 * 2 ** 20;
const SCARCE_BYTES = 2 * 2 ** 30;

/**
 * What would keep the stack from running, all at once: ports in use, folders that cannot be read or written, token
 * files, a full disk. Makes the folders of runs and state.
 *
 * @param ports whether ports are looked at: not where the stack is running and has them itself
 */
export async function checkStack(
  stack: Stack,
  { ports = true }: { readonly ports?: boolean } = {},
): Promise<readonly Problem[]> {
  const found = (await Promise.all([
    ports ? checkPorts(stack) : [],
    checkReadable(stack.models, ["models"]),
    stack.gateway.presets === undefined
      ? []
      : checkReadable(stack.gateway.presets, ["gateway", "presets"]),
    checkWritable(stack.runs, ["runs"]),
    checkWritable(stack.state, ["state"]),
    checkTokens(stack),
    checkTls(stack),
  ])).flat();
  return await Promise.all(found.map(async ({ keys, ...problem }) => ({
    ...problem,
    where: `${await fieldPosition(stack.file, keys)}: ${keys.join(".")}`,
  })));
}

function checkPorts(stack: Stack): Find[] {
  return stackListeners(stack).flatMap(({ path, host, port }) => {
    const fault = listenFault(host, port);
    return fault === undefined ? [] : [{ severity: "error", keys: path, ...fault } as const];
  });
}

function listenFault(
  hostname: string,
  port: number,
): { readonly message: string; readonly advice: string } | undefined {
  try {
    Deno.listen({ hostname, port }).close();
    return undefined;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      return {
        message: `Port ${port} of ${hostname} is in use`,
        advice: "end what listens there, or take another port (0: any free one)",
      };
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      return { message: `Port ${port} needs more rights`, advice: "take one above 1023" };
    }
    if (error instanceof Deno.errors.AddrNotAvailable) {
      return {
        message: `Address ${hostname} is not one of this machine's`,
        advice: "take 127.0.0.1, or 0.0.0.0 for all of them",
      };
    }
    return { message: reason(error), advice: "take another host or port" };
  }
}

async function checkReadable(path: string, keys: readonly Key[]): Promise<Find[]> {
  const fault = (message: string, advice: string): Find[] => [
    { severity: "error", keys, message: `Folder ${path} ${message}`, advice },
  ];
  try {
    if (!(await stat(path)).isDirectory()) return fault("is a file", "name a folder");
    await access(path, constants.R_OK | constants.X_OK);
    return [];
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    return missing
      ? fault("is not there", "mend the path; it is relative to the description's folder")
      : fault(`cannot be read: ${reason(error)}`, "give this user the right to read it");
  }
}

async function checkWritable(path: string, keys: readonly Key[]): Promise<Find[]> {
  try {
    await mkdir(path, { recursive: true });
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    return [{
      severity: "error",
      keys,
      message: `Folder ${path} cannot be written: ${reason(error)}`,
      advice: `give this user the right to write ${dirname(path)}, or name another folder`,
    }];
  }
  const { bavail, bsize, files, ffree } = await statfs(path);
  const free = bavail * bsize;
  const full = free < LEAST_BYTES || (files > 0 && ffree === 0);
  if (!full && free >= SCARCE_BYTES) return [];
  return [{
    severity: full ? "error" : "warning",
    keys,
    message: `Disk of ${path} has ${(free / 2 ** 20).toFixed(0)} MiB${
      ffree === 0 && files > 0 ? " and no file" : ""
    } left, expected at least ${(full ? LEAST_BYTES : SCARCE_BYTES) / 2 ** 20} MiB`,
    advice: "delete old runs, or name a folder on another disk",
  }];
}

async function checkTokens({ rewards, trainer, gateway, cluster }: Stack): Promise<Find[]> {
  const files: { keys: Key[]; path: string }[] = [
    ...rewards.flatMap(({ admin }, i) =>
      admin ? [{ keys: ["rewards", i, "admin", "tokenFile"], path: admin.tokenFile }] : []
    ),
    ...(trainer.tokenFile ? [{ keys: ["trainer", "tokenFile"], path: trainer.tokenFile }] : []),
    ...(gateway.tokenFile ? [{ keys: ["gateway", "tokenFile"], path: gateway.tokenFile }] : []),
    ...(cluster?.tokenFile ? [{ keys: ["cluster", "tokenFile"], path: cluster.tokenFile }] : []),
  ];
  const found: Find[] = [];
  for (const { keys, path } of files) {
    try {
      await readToken(path);
      found.push(...await checkPrivate(path, { keys, what: "Token file" }));
    } catch (error) {
      found.push({
        severity: "error",
        keys,
        message: reason(error),
        advice: `umask 077; openssl rand -hex 24 > ${path}`,
      });
    }
  }
  const open = (host: string) => !/^(?:localhost|127\..*|::1)$/.test(host);
  const openTo = (keys: readonly Key[], host: string, what: string): Find => ({
    severity: "warning",
    keys,
    message: `Anybody who reaches ${host} may start and delete runs by ${what}`,
    advice: "set a tokenFile",
  });
  if (open(trainer.host) && trainer.tokenFile === undefined) {
    found.push(openTo(["trainer", "host"], trainer.host, "the trainer"));
  }
  if (open(gateway.host) && gateway.tokenFile === undefined) {
    found.push(openTo(["gateway", "host"], gateway.host, "the gateway"));
  }
  return found;
}

async function checkTls({ rewards, trainer, clientTls, cluster }: Stack): Promise<Find[]> {
  const servers = [
    ...rewards.map(({ tls }, i) => ({ keys: ["rewards", i, "tls"], tls })),
    { keys: ["trainer", "tls"], tls: trainer.tls },
  ];
  const found: Find[] = [];
  const check = async (keys: readonly Key[], read: () => Promise<unknown>, key?: string) => {
    try {
      await read();
      if (key !== undefined) {
        found.push(...await checkPrivate(key, { keys: [...keys, "key"], what: "Key file" }));
      }
    } catch (error) {
      const advice = "name PEM files that this user can read";
      found.push({ severity: "error", keys, message: reason(error), advice });
    }
  };
  for (const { keys, tls } of servers) {
    if (tls !== undefined) await check(keys, () => readServerTls(tls), tls.key);
  }
  await check(["clientTls"], () => readClientTls(clientTls), clientTls.key);
  const asked = cluster?.tls ?? {};
  await check(["cluster", "tls"], () => readClientTls(asked), asked.key);
  return found;
}

/** A file that is for its owner only. */
async function checkPrivate(
  path: string,
  { keys, what }: { readonly keys: readonly Key[]; readonly what: string },
): Promise<Find[]> {
  const { mode } = await stat(path);
  if (Deno.build.os === "windows" || (mode & 0o077) === 0) return [];
  return [{
    severity: "warning",
    keys,
    message: `${what} ${path} can be read by other users`,
    advice: `chmod 600 ${path}`,
  }];
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
