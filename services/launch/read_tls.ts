import { resolve } from "node:path";
import { InputError } from "../../base/mod.ts";
import type { ClientTls } from "../rpc/mod.ts";
import type { ServerTls } from "../rpc/mod.ts";

/** Paths of a server's PEM files. With `clientCa` callers must show a certificate it signed. */
export interface ServerTlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly clientCa?: string | undefined;
}

/** Paths of a client's PEM files. */
export interface ClientTlsFiles {
  /** Authorities of servers. Default: the system's. */
  readonly ca?: string | undefined;
  /** Its own, for servers that ask for one; with `key`. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** Reads a server's PEM files, relative to `folder`. Throws an `InputError` that names the file. */
export async function readServerTls(
  { cert, key, clientCa }: ServerTlsFiles,
  folder = ".",
): Promise<ServerTls> {
  return {
    cert: await readPem(cert, folder),
    key: await readPem(key, folder),
    ...(clientCa !== undefined && { clientCa: await readPem(clientCa, folder) }),
  };
}

/** Reads a client's PEM files, relative to `folder`. Throws an `InputError` that names the file, or what is missing. */
export async function readClientTls(
  { ca, cert, key }: ClientTlsFiles,
  folder = ".",
): Promise<ClientTls> {
  if ((cert === undefined) !== (key === undefined)) {
    const [given, missing] = key === undefined ? ["certificate", "key"] : ["key", "certificate"];
    throw new InputError(`TLS has a ${given} and no ${missing}: they go together`);
  }
  return {
    ...(ca !== undefined && { ca: await readPem(ca, folder) }),
    ...(cert !== undefined && { cert: await readPem(cert, folder) }),
    ...(key !== undefined && { key: await readPem(key, folder) }),
  };
}

async function readPem(path: string, folder: string): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(resolve(folder, path));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new InputError(`TLS file ${path} cannot be read: ${reason}`, { cause });
  }
  if (new TextDecoder().decode(bytes).includes("-----BEGIN ")) return bytes;
  throw new InputError(`TLS file ${path} is not PEM: it has no "-----BEGIN"`);
}
