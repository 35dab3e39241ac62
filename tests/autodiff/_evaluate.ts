import type { Evaluate, NamedTensors } from "../../compile/testing/mod.ts";
import { openEngine, type SessionOptions } from "../../runtime/mod.ts";

/** Runs models in this process on one thread. */
export const evaluate: Evaluate = (bytes, feeds) => evaluateWith({}, bytes, feeds);

/** Runs a model as it is written: ONNX Runtime's optimizer may round what the model does not. */
export const evaluateAsWritten: Evaluate = (bytes, feeds) =>
  evaluateWith({ graphOptimizationLevel: "disabled" }, bytes, feeds);

async function evaluateWith(
  options: SessionOptions,
  ...[bytes, feeds]: Parameters<Evaluate>
): Promise<readonly NamedTensors[]> {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const session = await engine.load({ bytes }, { intraOpNumThreads: 1, ...options });
    const results: NamedTensors[] = [];
    for (const feed of feeds) results.push(await session.run(feed));
    return results;
  } finally {
    await engine.close();
  }
}
