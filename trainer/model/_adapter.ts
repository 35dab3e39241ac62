import { scaledTensors } from "../../models/lora/mod.ts";
import type { Engine, Feed } from "../../runtime/mod.ts";
import type { Parameters } from "../tensors.ts";

/** LoRA weights that an engine keeps: what graphs are fed, and how the weights are changed and freed. */
export interface KeptAdapter {
  readonly feeds: Readonly<Record<string, Feed>>;
  update(parameters: Parameters): Promise<void>;
  release(): Promise<void>;
}

/** Keeps LoRA weights in an engine, their effect times `scale`. */
export async function keepAdapter(
  engine: Engine,
  parameters: Parameters,
  scale: number,
): Promise<KeptAdapter> {
  const places = new Map(Object.keys(parameters).map((name) => [name, engine.place(name)]));
  const update = async (next: Parameters) => {
    const scaled = scaledTensors(next, scale);
    for (const [name, place] of places) {
      const tensor = scaled[name];
      if (tensor === undefined) throw new RangeError(`LoRA weights lack "${name}"`);
      await engine.keep(place, tensor);
    }
  };
  await update(parameters);
  return {
    feeds: Object.fromEntries(places),
    update,
    release: async () => await engine.forget(...places.values()),
  };
}
