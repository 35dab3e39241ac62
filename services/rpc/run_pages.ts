import type { Run, TrainerService } from "../../proto/mod.ts";
import type { CallOptions, GrpcClient } from "./grpc_client.ts";

/** All runs of a trainer, newest first, a page at a time. Runs that are started meanwhile are left out. */
export async function* runPages(
  trainer: Pick<GrpcClient<typeof TrainerService>, "listRuns">,
  options: CallOptions = {},
): AsyncGenerator<readonly Run[]> {
  let pageToken = "";
  do {
    const page = await trainer.listRuns({ pageToken }, options);
    yield page.runs;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

/** The same as one list. */
export async function allRuns(
  ...asked: Parameters<typeof runPages>
): Promise<readonly Run[]> {
  const runs: Run[] = [];
  for await (const page of runPages(...asked)) runs.push(...page);
  return runs;
}
