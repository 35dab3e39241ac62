import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { cut, InputError } from "../../../base/mod.ts";
import {
  type Hello,
  type Orders,
  OrdersSchema,
  type RunOrders,
  type Worker,
  WorkerSchema,
  WorkerState,
} from "../../../proto/mod.ts";
import { checkVersion, CONTRACT_VERSION, HELLO_MS } from "../../cluster/mod.ts";

/** A worker that was not heard of for this long is gone, in milliseconds. */
const GONE_MS = 5 * HELLO_MS;
/** So many faults without a job done between them set a worker aside. */
const MOST_FAULTS = 3;
/** Workers that are remembered. */
const MOST_WORKERS = 1000;
/** Characters of a name, and of what else a worker says of itself. */
const [MAX_NAME, MAX_TEXT] = [200, 1000];
/** Models that a worker says it has. */
const MAX_MODELS = 100;
/** States in which a worker takes jobs, or will soon. */
const FIT: ReadonlySet<WorkerState> = new Set([
  WorkerState.IDLE,
  WorkerState.LOADING,
  WorkerState.WORKING,
]);

interface Row {
  worker: Worker;
  seen: number;
  /** Faults since its last job. */
  faults: number;
  /** Why it is given no jobs; empty where it is. */
  aside: string;
}

/** The workers that a trainer knows, by what they tell of themselves and what became of their jobs. */
export class WorkerTable {
  readonly #epoch: string;
  readonly #now: () => number;
  readonly #rows = new Map<string, Row>();
  /** The run that workers are to take jobs of. */
  run: RunOrders | undefined;

  constructor(epoch: string, now: () => number = Date.now) {
    this.#epoch = epoch;
    this.#now = now;
  }

  /**
   * Takes in what a worker tells, and answers what it is to do. Throws `InputError` where there are too many: who has the
   * token of NATS can say to be any number of them.
   */
  hello({ version, worker: told = create(WorkerSchema) }: Hello): Orders {
    const worker = bounded(told);
    const known = this.#rows.get(worker.name);
    if (known === undefined && this.#rows.size >= MOST_WORKERS) {
      this.#forget();
      if (this.#rows.size >= MOST_WORKERS) {
        throw new InputError(`There are ${MOST_WORKERS} workers, which is all that are taken`);
      }
    }
    // What is started again may have been mended.
    const row: Row = known && isSame(known.worker, worker)
      ? known
      : { worker, seen: 0, faults: 0, aside: "" };
    this.#rows.set(worker.name, Object.assign(row, { worker, seen: this.#now() }));
    try {
      checkVersion(`Worker ${worker.name}`, version);
    } catch (error) {
      row.aside = error instanceof Error ? error.message : String(error);
    }
    return create(OrdersSchema, {
      version: CONTRACT_VERSION,
      epoch: this.#epoch,
      aside: row.aside,
      ...(this.run !== undefined && { run: this.run }),
    });
  }

  /** A worker has done a job. */
  done(name: string): void {
    const row = this.#rows.get(name);
    if (row !== undefined) row.faults = 0;
  }

  /** A worker has failed at a job. After several times in a row it is set aside; answers whether it is now. */
  failed(name: string, fault: string): boolean {
    const row = this.#rows.get(name);
    if (row === undefined || ++row.faults < MOST_FAULTS) return false;
    row.aside = `Failed at ${MOST_FAULTS} jobs in a row, the last time: ${fault}`;
    return true;
  }

  /** All that were heard of lately, by name. */
  list(): MessageInitShape<typeof WorkerSchema>[] {
    this.#forget();
    return [...this.#rows.values()]
      .map(({ worker, seen, aside }) => ({
        ...worker,
        seenAt: timestampFromMs(seen),
        ...(aside !== "" && { state: WorkerState.ASIDE, reason: aside }),
      }))
      .sort((a, b) => a.name < b.name ? -1 : 1);
  }

  /** Whether workers wait for jobs, and none computes. */
  get isIdle(): boolean {
    const states = new Set(this.list().map(({ state }) => state));
    return states.has(WorkerState.IDLE) && !states.has(WorkerState.WORKING);
  }

  /** Why no worker takes jobs of the run; `undefined` where one does. */
  whyNone(): string | undefined {
    const workers = this.list();
    if (workers.some(({ state = WorkerState.UNSPECIFIED }) => FIT.has(state))) return undefined;
    if (workers.length === 0) return "No worker has joined";
    const reasons = workers.map(({ name, state = WorkerState.UNSPECIFIED, reason }) =>
      `${name} is ${WorkerState[state]?.toLowerCase()}${reason ? `: ${reason}` : ""}`
    );
    return `No worker takes jobs: ${reasons.join("; ")}`;
  }

  #forget(): void {
    const now = this.#now();
    for (const [name, { seen }] of this.#rows) {
      if (now - seen > GONE_MS) this.#rows.delete(name);
    }
  }
}

/** What a worker says of itself, its texts cut. */
function bounded({ name, hardware, reason, runId, modelSha256, ...worker }: Worker): Worker {
  return {
    ...worker,
    name: cut(name, MAX_NAME),
    hardware: cut(hardware, MAX_TEXT),
    reason: cut(reason, MAX_TEXT),
    runId: cut(runId, MAX_NAME),
    modelSha256: modelSha256.slice(0, MAX_MODELS).map((digest) => cut(digest, MAX_NAME)),
  };
}

function isSame({ startedAt: a }: Worker, { startedAt: b }: Worker): boolean {
  return a?.seconds === b?.seconds && a?.nanos === b?.nanos;
}
