import { join } from "node:path";
import { linkedPlaces } from "../../launch/mod.ts";
import { ROOT, type Stack } from "./read_stack.ts";
import { localAddress, type Place } from "./service_definition.ts";

/** A stack of processes on this machine. */
export function localPlace({ models, runs, state }: Stack): Place {
  return {
    root: ROOT,
    deno: Deno.execPath(),
    models,
    // A folder of models has pipelines, and those have parts; an owner's name may stand before.
    linkedModels: linkedPlaces(models, { depth: 3 }),
    runs,
    work: models,
    cache: join(state, "weights"),
    listen: (host) => host,
    address: localAddress,
    replicas: "apart",
    file: (path) => path,
  };
}
