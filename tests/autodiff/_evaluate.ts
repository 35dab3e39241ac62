import type { Evaluate, NamedTensors } from "../../compile/testing/mod.ts";
import { openEngine } from "../../runtime/mod.ts";

/** Runs models in this process on one thread. */
export const evaluate: Evaluate = async (bytes, feeds) => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const session = await engine.load({ bytes }, { intraOpNumThreads: 1 });
    const results: NamedTensors[] = [];
    for (const feed of feeds) results.push(await session.run(feed));
    return results;
  } finally {
    await engine.close();
  }
};
