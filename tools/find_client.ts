import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Where `deno task clients` installs. */
export const CLIENTS_FOLDER = fileURLToPath(new URL("../.cache/clients/", import.meta.url));

/**
 * A published gRPC client or the NATS server, installed by `deno task clients` or on the PATH; undefined where there is none. For tests:
 * `ignore: findClient("grpcurl") === undefined`.
 */
export function findClient(name: string): string | undefined {
  const folders = [CLIENTS_FOLDER, ...(Deno.env.get("PATH") ?? "").split(delimiter)];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}
