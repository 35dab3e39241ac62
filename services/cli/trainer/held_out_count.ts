import type { PromptSource, TrainerService } from "../../../proto/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";

/** How many prompts a run holds out, and whether they are those it trains on, as where its configuration names none. */
export async function heldOutCount(
  client: GrpcClient<typeof TrainerService>,
  { runId, signal }: { readonly runId: string; readonly signal: AbortSignal },
): Promise<{ readonly count: number; readonly areTrained: boolean }> {
  const { run } = await client.getRun({ runId, wholePrompts: true }, { timeoutMs: 60_000, signal });
  const held = listOf(run?.config?.heldOutPrompts);
  const trained = new Set(listOf(run?.config?.prompts));
  return { count: held.length, areTrained: held.every((prompt) => trained.has(prompt)) };
}

function listOf(prompts: PromptSource | undefined): readonly string[] {
  return prompts?.source.case === "list" ? prompts.source.value.prompts : [];
}
