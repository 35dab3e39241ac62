import {
  AckPolicy,
  DiscardPolicy,
  jetstream,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from "@nats-io/jetstream";
import { nanos, type NatsConnection } from "@nats-io/transport-node";
import { consumerName, JOB_STREAM, JOB_SUBJECTS, jobSubject } from "./contract.ts";

/** The same job that is published twice within this time is kept once, in milliseconds. */
const DUPLICATE_MS = 120_000;
/** JetStream's code of a stream that is there with other limits, which its operator set. */
const OTHER_CONFIGURATION = 10058;

/** The queue of an epoch's jobs, as its trainer fills it. */
export class JobStream {
  readonly #nats: NatsConnection;
  readonly #epoch: string;
  readonly #silenceMs: number;
  #isReady = false;

  /** @param silenceMs a job whose worker says nothing for so long is given to another */
  constructor(
    nats: NatsConnection,
    { epoch, silenceMs }: { readonly epoch: string; readonly silenceMs: number },
  ) {
    this.#nats = nats;
    this.#epoch = epoch;
    this.#silenceMs = silenceMs;
  }

  /**
   * Makes stream and consumer, without any job, unless they are known to be there. Answers whether it did: jobs that were
   * published before are gone then. Throws JetStream's errors.
   */
  async prepare(): Promise<boolean> {
    if (this.#isReady) return false;
    const manager = await this.#manager();
    await manager.streams.add({
      name: JOB_STREAM,
      subjects: [JOB_SUBJECTS],
      retention: RetentionPolicy.Workqueue,
      storage: StorageType.File,
      discard: DiscardPolicy.New,
      duplicate_window: nanos(DUPLICATE_MS),
    }).catch((error) => {
      if (!(error instanceof JetStreamApiError && error.code === OTHER_CONFIGURATION)) throw error;
    });
    const own = consumerName(this.#epoch);
    for await (const { name } of manager.consumers.list(JOB_STREAM)) {
      if (name !== own) await manager.consumers.delete(JOB_STREAM, name);
    }
    await manager.streams.purge(JOB_STREAM);
    await manager.consumers.add(JOB_STREAM, {
      durable_name: own,
      filter_subject: jobSubject(this.#epoch),
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(this.#silenceMs),
      max_deliver: -1,
      max_ack_pending: -1,
    });
    return this.#isReady = true;
  }

  /** Adds a job. Throws JetStream's error where the stream takes no more; after any error `prepare` looks again. */
  async publish(id: string, job: Uint8Array): Promise<void> {
    try {
      await jetstream(this.#nats).publish(jobSubject(this.#epoch), job, {
        msgID: `${this.#epoch}.${id}`,
        timeout: 5_000,
      });
    } catch (error) {
      // A full stream is there; whatever else it is may be gone.
      if (!(error instanceof JetStreamApiError)) this.#isReady = false;
      throw error;
    }
  }

  /** Has `prepare` make stream and consumer anew. */
  distrust(): void {
    this.#isReady = false;
  }

  /** How many jobs are queued or being computed. */
  async count(): Promise<number> {
    const manager = await this.#manager();
    return (await manager.streams.info(JOB_STREAM)).state.messages;
  }

  #manager(): Promise<JetStreamManager> {
    return jetstreamManager(this.#nats, { checkAPI: false });
  }

  /** Takes all jobs back. */
  async clear(): Promise<void> {
    const manager = await this.#manager();
    await manager.streams.purge(JOB_STREAM, { filter: jobSubject(this.#epoch) });
  }
}
