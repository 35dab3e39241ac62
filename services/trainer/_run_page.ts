import { create, toBinary } from "@bufbuild/protobuf";
import { type ListRunsRequest, type Run, RunSchema } from "../../proto/mod.ts";
import { FieldError, type RunStore, type TrainingRun } from "../../trainer/mod.ts";
import { toUnreadableRun, toWireRun } from "./wire_events.ts";

/** What an answer holds at most: the thread that trains makes it. */
const MOST_RUNS = 200;
const MOST_BYTES = 2 ** 20;

/** A run as it is listed, and the bytes of its message. */
interface SizedRun {
  readonly run: Run;
  readonly bytes: number;
}

interface Row extends SizedRun {
  readonly events: readonly unknown[];
  readonly count: number;
  readonly checkpoints: readonly number[];
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
      row: () => sized(create(RunSchema, toUnreadableRun(id, reason))),
    })),
  ];
  const rest = pageToken === "" ? entries : entries.filter(({ key }) => key < pageToken);
  const runs: Run[] = [];
  let [bytes, last] = [0, ""];
  for (const { key, row } of rest.slice(0, Math.min(pageSize || MOST_RUNS, MOST_RUNS))) {
    const made = row();
    bytes += made.bytes;
    // The first run is sent whatever its size.
    if (runs.length > 0 && bytes > MOST_BYTES) break;
    runs.push(made.run);
    last = key;
  }
  return { runs, nextPageToken: runs.length < rest.length ? last : "" };
}

/** Descends in the order of a list. Times of one form compare as text. */
function keyOf({ id, createdAt = "" }: { readonly id: string; readonly createdAt?: string }) {
  return `${createdAt}/${id}`;
}

function rowOf(run: TrainingRun): SizedRun {
  const { log: { events }, checkpoints } = run;
  const known = rows.get(run);
  if (
    known?.events === events && known.count === events.length && known.checkpoints === checkpoints
  ) return known;
  const made = sized(create(RunSchema, toWireRun(run, { prompts: "none" })));
  rows.set(run, { ...made, events, count: events.length, checkpoints });
  return made;
}

function sized(run: Run): SizedRun {
  return { run, bytes: toBinary(RunSchema, run).length };
}
