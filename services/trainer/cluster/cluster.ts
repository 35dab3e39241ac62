import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Logger } from "../../../base/mod.ts";
import { encodeSafetensors } from "../../../models/weights/mod.ts";
import {
  type Blob,
  HelloSchema,
  JobResultSchema,
  OrdersSchema,
  ResultAnswerSchema,
  RunOrdersSchema,
  Verdict,
} from "../../../proto/mod.ts";
import type { Parameters, RunWorkers, ServedRun, ShardWorkers } from "../../../trainer/mod.ts";
import {
  BlobKeeper,
  checkVersion,
  connectNats,
  CONTRACT_VERSION,
  fetchBlob,
  HELLO_SUBJECT,
  JobStream,
  resultSubject,
} from "../../cluster/mod.ts";
import type { NatsOptions } from "../../launch/mod.ts";
import { ShardOffer } from "./shard_offer.ts";
import { WorkerTable } from "./worker_table.ts";

/** How a trainer takes part in a cluster. */
export interface ClusterOptions {
  readonly nats: NatsOptions;
  /** The time in which this trainer leads. */
  readonly epoch: string;
  /** A job whose worker says nothing for so long is given to another, in milliseconds. */
  readonly silenceMs: number;
}

/** Results whose tensors are fetched at a time: each is as large as the LoRA. */
const FETCHED_AT_ONCE = 4;

/** The workers of a trainer, over NATS. */
export class Cluster implements ShardWorkers {
  readonly table: WorkerTable;
  readonly #nats: NatsConnection;
  readonly #keeper: BlobKeeper;
  readonly #jobs: JobStream;
  readonly #log: Logger;
  readonly #fetching = new Set<Promise<unknown>>();
  #offer: ShardOffer | undefined;
  #offers = 0;

  private constructor(
    nats: NatsConnection,
    { epoch, silenceMs, log }: Omit<ClusterOptions, "nats"> & { readonly log: Logger },
  ) {
    this.#nats = nats;
    this.#keeper = new BlobKeeper(nats);
    this.#jobs = new JobStream(nats, { epoch, silenceMs });
    this.#log = log;
    this.table = new WorkerTable(epoch);
    this.#serve(HELLO_SUBJECT, (bytes) => {
      const orders = this.table.hello(fromBinary(HelloSchema, bytes));
      return Promise.resolve(toBinary(OrdersSchema, orders));
    });
    this.#serve(resultSubject(epoch), async (bytes) => {
      const answer = { version: CONTRACT_VERSION, verdict: await this.#result(bytes) };
      return toBinary(ResultAnswerSchema, create(ResultAnswerSchema, answer));
    });
  }

  /** Joins. Throws an `Error` where NATS cannot be reached. */
  static async join(
    { nats, ...options }: ClusterOptions & { readonly log: Logger },
  ): Promise<Cluster> {
    return new Cluster(
      await connectNats(nats, { name: "drtune-trainer", log: options.log }),
      options,
    );
  }

  async begin({ id, config, modelDigest, say }: ServedRun): Promise<RunWorkers> {
    const blob = await this.#keeper.keep(new TextEncoder().encode(JSON.stringify(config)));
    this.table.run = create(RunOrdersSchema, {
      ...{ runId: id, config: blob, modelSha256: modelDigest },
    });
    /** One worker of each hardware. */
    const hardware = new Map<string, string>();
    return {
      offer: (work) => {
        const lora = this.#keep(work.parameters);
        const reference = work.reference && this.#keep(work.reference);
        return this.#offer = new ShardOffer(work, {
          number: ++this.#offers,
          runId: id,
          jobs: this.#jobs,
          workers: this.table,
          ...{ lora, reference },
          fetch: (blob, maxBytes) => this.#fetch(blob, maxBytes),
          computedOn: (worker, found) => {
            if (hardware.has(found)) return;
            hardware.set(found, worker);
            if (hardware.size > 1) void say(unequal(hardware)).catch(() => {});
          },
          onFault: ({ worker, message, index }) => {
            const isAside = this.table.failed(worker, message);
            const facts = { run: id, iteration: work.iteration, shard: index, worker };
            this.#log.warn(`A job failed: ${message}`, { ...facts, setAside: isAside });
          },
          onWithdrawn: async (offer) => {
            if (this.#offer === offer) this.#offer = undefined;
            // What NATS cannot be told now no longer matters to it: results of this offer are refused.
            await this.#jobs.clear().catch(() => {});
            for (const kept of [lora, reference]) {
              await kept?.then((blob) => this.#keeper.drop(blob), () => {});
            }
          },
        });
      },
      close: () => {
        this.table.run = undefined;
        this.#keeper.drop(blob);
        return Promise.resolve();
      },
    };
  }

  async close(): Promise<void> {
    await this.#nats.close();
  }

  #keep(parameters: Parameters): Promise<Blob> {
    const keeping = this.#keeper.keep(encodeSafetensors({ ...parameters }));
    // Whoever waits for the shards is told.
    keeping.catch(() => {});
    return keeping;
  }

  /** What becomes of the message of a job. */
  async #result(bytes: Uint8Array): Promise<Verdict> {
    const result = fromBinary(JobResultSchema, bytes);
    checkVersion(`Worker ${result.worker}`, result.version);
    const offer = this.#offer;
    // Of an iteration that is over: nobody needs it.
    if (offer?.number !== result.offer) return Verdict.DONE;
    return await offer.result(result);
  }

  async #fetch(blob: Blob, maxBytes: number): Promise<Uint8Array> {
    while (this.#fetching.size >= FETCHED_AT_ONCE) await Promise.race(this.#fetching);
    const fetching = fetchBlob(this.#nats, blob, { maxBytes });
    const settled = fetching.then(() => {}, () => {});
    this.#fetching.add(settled);
    try {
      return await fetching;
    } finally {
      this.#fetching.delete(settled);
    }
  }

  /** Answers what comes to a subject. What cannot be read has no answer. */
  #serve(subject: string, answer: (bytes: Uint8Array) => Promise<Uint8Array>): void {
    this.#nats.subscribe(subject, {
      callback: (error, message) => {
        if (error !== null) return;
        Promise.resolve(message.data).then(answer).then(
          (bytes) => void message.respond(bytes),
          (cause) => {
            const reason = cause instanceof Error ? cause.message : String(cause);
            this.#log.warn(`A message to ${subject} is refused: ${reason}`);
          },
        );
      },
    });
  }
}

function unequal(hardware: ReadonlyMap<string, string>): string {
  const words = [...hardware].map(([found, worker]) => `${worker} on ${found}`);
  return "Shards are computed on unequal hardware, so another run's results may differ in their " +
    `last bits: ${words.join("; ")}`;
}
