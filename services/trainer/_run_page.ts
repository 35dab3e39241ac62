import { create } from "@bufbuild/protobuf";
import { type ListRunsRequest, type Run, RunSchema } from "../../proto/mod.ts";
import { FieldError, type RunStore, type TrainingRun } from "../../trainer/mod.ts";
import { toUnreadableRun, toWireRun } from "./wire_events.ts";

interface Row {
  readonly events: readonly unknown[];
  readonly count: number;
  readonly checkpoints: readonly number[];
  readonly run: Run;
}

/** Rows as they were told last: most runs have ended, and lists are asked for every second. */
const rows = new WeakMap<TrainingRun, Row>();

/** A page of the runs of a folder, newest first; those that cannot be read come last. Throws `FieldError`. */
export function pageOf(
  store: RunStore,
  { pageSize, pageToken }: Pick<ListRunsRequest, "pageSize" | "pageToken">,
): { readonly runs: Run[]; readonly nextPageToken: string } {
  if (pageSize < 0) throw new FieldError("pageSize", `is ${pageSize}, expected 0 or more`);
  if (pageToken !== "" && !pageToken.includes("/")) {
    throw new FieldError("pageToken", "is none that ListRuns answered");
  }
  const entries = [
    ...store.list().map((run) => ({ key: keyOf(run), row: () => rowOf(run) })),
    ...[...store.unreadable].sort(([a], [b]) => a < b ? 1 : -1).map(([id, reason]) => ({
      key: keyOf({ id }),
      row: () => create(RunSchema, toUnreadableRun(id, reason)),
    })),
  ];
  const rest = pageToken === "" ? entries : entries.filter(({ key }) => key < pageToken);
  const page = pageSize === 0 ? rest : rest.slice(0, pageSize);
  const last = page.length < rest.length ? page.at(-1)?.key : undefined;
  return { runs: page.map(({ row }) => row()), nextPageToken: last ?? "" };
}

/** Descends in the order of a list. Times of one form compare as text. */
function keyOf({ id, createdAt = "" }: { readonly id: string; readonly createdAt?: string }) {
  return `${createdAt}/${id}`;
}

function rowOf(run: TrainingRun): Run {
  const { log: { events }, checkpoints } = run;
  const known = rows.get(run);
  if (
    known?.events === events && known.count === events.length && known.checkpoints === checkpoints
  ) return known.run;
  const made = create(RunSchema, toWireRun(run, { prompts: "none" }));
  rows.set(run, { events, count: events.length, checkpoints, run: made });
  return made;
}
