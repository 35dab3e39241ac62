import type { Tensors } from "../../runtime/mod.ts";

/** What a graph gave as `outputs`, under the names of the tensors that these belong to. */
export function byTensor(outputs: ReadonlyMap<string, string>, found: Tensors): Tensors {
  return Object.fromEntries(
    [...outputs].flatMap(([name, output]) => {
      const tensor = found[output];
      return tensor === undefined ? [] : [[name, tensor]];
    }),
  );
}
