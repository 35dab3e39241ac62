import { scaledTensors } from "../../models/lora/mod.ts";
import type { Engine, Feed } from "../../runtime/mod.ts";
import type { Parameters } from "../tensors.ts";

/** LoRA weights that an engine keeps: what graphs are fed, and how the weights are changed and freed. */
export interface KeptAdapter {
  readonly feeds: Readonly<Record<string, Feed>>;
  update(parameters: Parameters): Promise<void>;
  release(): Promise<void>;
}

let adapters = 0;

/** Keeps LoRA weights in an engine under names of their own, their effect times `scale`. */
export async function keepAdapter(
  engine: Engine,
  parameters: Parameters,
  scale: number,
): Promise<KeptAdapter> {
  const prefix = `lora.${adapters++}.`;
  const names = Object.keys(parameters);
  const update = async (next: Parameters) => {
    for (const [name, tensor] of Object.entries(scaledTensors(next, scale))) {
      await engine.keep(prefix + name, tensor);
    }
  };
  await update(parameters);
  return {
    feeds: Object.fromEntries(names.map((name) => [name, { kept: prefix + name }])),
    update,
    release: async () => {
      for (const name of names) await engine.forget(prefix + name);
    },
  };
}
