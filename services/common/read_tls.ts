import { resolve } from "node:path";
import type { ServerTls } from "./grpc_server.ts";

/** Paths of a server's PEM files. With `clientCa` callers must show a certificate it signed. */
export interface ServerTlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly clientCa?: string | undefined;
}

/** Reads a server's PEM files, relative to `folder`. Throws an `Error` that names the file. */
export async function readServerTls(
  { cert, key, clientCa }: ServerTlsFiles,
  folder = ".",
): Promise<ServerTls> {
  const read = async (path: string) => {
    try {
      return await Deno.readFile(resolve(folder, path));
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`TLS file ${path} cannot be read: ${reason}`, { cause });
    }
  };
  return {
    cert: await read(cert),
    key: await read(key),
    ...(clientCa !== undefined && { clientCa: await read(clientCa) }),
  };
}
