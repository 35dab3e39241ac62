import type { TrainerService } from "../../../proto/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";

/** How many held-out prompts a run has. */
export async function heldOutCount(
  client: GrpcClient<typeof TrainerService>,
  { runId, signal }: { readonly runId: string; readonly signal: AbortSignal },
): Promise<number> {
  const { run } = await client.getRun({ runId }, { timeoutMs: 60_000, signal });
  const source = run?.config?.heldOutPrompts?.source;
  return source?.case === "list" ? source.value.prompts.length : 0;
}
