import { join } from "node:path";
import { ROOT, type Stack } from "./read_stack.ts";
import { localAddress, type Place } from "./service_definition.ts";

/** A stack of processes on this machine. */
export function localPlace({ models, runs, state }: Stack): Place {
  return {
    root: ROOT,
    deno: Deno.execPath(),
    models,
    runs,
    cache: join(state, "weights"),
    listen: (host) => host,
    address: localAddress,
    replicas: "apart",
    file: (path) => path,
  };
}
