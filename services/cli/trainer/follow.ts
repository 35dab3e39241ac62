import { RunState, type TrainerService } from "../../../proto/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";
import { typed } from "../typed.ts";
import { stateName, watchRun } from "./watch.ts";

/**
 * Follows a run until it ends, tells how, and answers the command's exit code. Interrupted, it says that the run goes on
 * and how to watch or stop it.
 */
export async function followRun(
  client: GrpcClient<typeof TrainerService>,
  options: Parameters<typeof watchRun>[1],
): Promise<number> {
  const { runId, json = false, signal } = options;
  try {
    const { state, reason } = await watchRun(client, options);
    if (!json) console.log(`${runId} ${stateName(state)}${reason === "" ? "" : `: ${reason}`}`);
    return state === RunState.FAILED ? 1 : 0;
  } catch (error) {
    if (signal?.aborted) {
      console.error(
        `\nRun ${runId} goes on: "${typed(`watch ${runId}`)}" follows it again, "${
          typed(`stop ${runId}`)
        }" ends it`,
      );
    }
    throw error;
  }
}
