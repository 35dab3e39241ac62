import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { type Consumer, jetstream, type JsMsg } from "@nats-io/jetstream";
import { errors, type NatsConnection } from "@nats-io/transport-node";
import type { Logger } from "../../base/mod.ts";
import { encodeSafetensors } from "../../models/weights/mod.ts";
import {
  type Blob,
  HelloSchema,
  type Job,
  type JobResult,
  JobResultSchema,
  JobSchema,
  type Orders,
  OrdersSchema,
  ResultAnswerSchema,
  type RunOrders,
  Verdict,
  WorkerSchema,
  WorkerState,
} from "../../proto/mod.ts";
import { type ShardResult, UnavailableError } from "../../trainer/mod.ts";
import {
  BlobError,
  BlobKeeper,
  checkVersion,
  consumerName,
  CONTRACT_VERSION,
  HELLO_MS,
  HELLO_SUBJECT,
  JOB_STREAM,
  resultSubject,
} from "../cluster/mod.ts";
import type { Hardware } from "./hardware.ts";
import { RunSession, type SessionSettings, type ShardSession } from "./run_session.ts";

/** How long a worker waits for a job before it asks again whether there is a run, in milliseconds. */
const WAIT_MS = 1_000;
/** A result that is not answered within this time is told again, in milliseconds: its tensors are fetched meanwhile. */
const ANSWER_MS = 10_000;
/** A result that no trainer takes for this long is dropped, in milliseconds: the job is another's by then. */
const UNHEARD_MS = 60_000;
/** Before a job that failed is offered again, in milliseconds. */
const AGAIN_MS = 1_000;
/** A model that no trainer has work for stays open for this long, in milliseconds. */
const KEPT_MS = 60_000;
/** Weight of the last job in the mean time of jobs. */
const PACE = 0.25;

/** What a worker works with. */
export interface WorkerSettings extends SessionSettings {
  /** Its own, unlike all others'. */
  readonly name: string;
  readonly hardware: Hardware;
  readonly log: Logger;
  /** Opens a run. Default: `RunSession.open`. */
  readonly open?: (run: RunOrders, settings: SessionSettings) => Promise<ShardSession>;
}

/** Computes jobs for whichever trainer leads, one after the other. */
export class ClusterWorker {
  readonly #settings: WorkerSettings;
  readonly #nats: NatsConnection;
  readonly #keeper: BlobKeeper;
  readonly #draining = new AbortController();
  readonly #done: Promise<void>;
  readonly #verified = new Set<string>();
  readonly #startedAt = timestampNow();
  #orders: Orders | undefined;
  #session: { readonly key: string; readonly run: ShardSession } | undefined;
  /** Why this worker takes no job of the run with this key. */
  #unfit: { readonly key: string; readonly reason: string } | undefined;
  /** When the session was used last. */
  #usedAt = 0;
  #state = WorkerState.IDLE;
  #jobsDone = 0;
  #jobsFailed = 0;
  #secondsPerJob = 0;
  /** The result that is being told. */
  #telling: Promise<void> = Promise.resolve();

  constructor(settings: WorkerSettings) {
    this.#settings = settings;
    this.#nats = settings.nats;
    this.#keeper = new BlobKeeper(settings.nats);
    this.#done = this.#work();
    void this.#report();
  }

  /** Finishes the present job and ends. */
  async drain(): Promise<void> {
    this.#draining.abort();
    this.#state = WorkerState.DRAINING;
    await this.#done;
  }

  /** Tells of itself, and takes orders, for as long as it works. */
  async #report(): Promise<void> {
    let said = "";
    const { log } = this.#settings;
    for (;;) {
      try {
        const hello = create(HelloSchema, { version: CONTRACT_VERSION, worker: this.#self() });
        const answer = await this.#nats.request(HELLO_SUBJECT, toBinary(HelloSchema, hello), {
          timeout: 2 * HELLO_MS,
        });
        const orders = fromBinary(OrdersSchema, answer.data);
        checkVersion("The trainer", orders.version);
        if (orders.aside !== "" && said !== orders.aside) log.error(`Set aside: ${orders.aside}`);
        said = orders.aside;
        this.#orders = orders;
      } catch (error) {
        if (this.#nats.isClosed()) return;
        // Between two trainers there is nobody who answers.
        if (!(error instanceof errors.RequestError || error instanceof errors.TimeoutError)) {
          const message = error instanceof Error ? error.message : String(error);
          if (said !== message) log.warn(message);
          said = message;
          this.#orders = undefined;
        }
      }
      await new Promise((wait) => setTimeout(wait, HELLO_MS));
    }
  }

  #self() {
    const { name, hardware } = this.#settings;
    const { run } = this.#orders ?? {};
    const isUnfit = run !== undefined && this.#unfit?.key === keyOf(run);
    return create(WorkerSchema, {
      name,
      state: isUnfit && this.#state === WorkerState.IDLE ? WorkerState.UNFIT : this.#state,
      reason: isUnfit ? this.#unfit?.reason ?? "" : "",
      hardware: hardware.name,
      memoryBytes: BigInt(hardware.memoryBytes),
      modelSha256: [...this.#verified],
      runId: this.#session === undefined ? "" : run?.runId ?? "",
      jobsDone: BigInt(this.#jobsDone),
      jobsFailed: BigInt(this.#jobsFailed),
      secondsPerJob: this.#secondsPerJob,
      startedAt: this.#startedAt,
    });
  }

  async #work(): Promise<void> {
    const { signal } = this.#draining;
    let said = "";
    while (!signal.aborted) {
      try {
        const session = await this.#openSession();
        const message = session && await this.#nextJob();
        if (session && message) await this.#handle(message, session);
        else if (session === undefined) await new Promise((wait) => setTimeout(wait, WAIT_MS / 4));
      } catch (error) {
        // NATS, or what it had, is away; or the run's trainer.
        const message = error instanceof Error ? error.message : String(error);
        if (said !== message) this.#settings.log.warn(`Waiting: ${message}`);
        said = message;
        await new Promise((wait) => setTimeout(wait, WAIT_MS / 4));
      }
    }
    await this.#telling;
    await this.#session?.run.close();
  }

  /** The session of the run that is ordered; `undefined` where there is none, or none for this worker. */
  async #openSession(): Promise<ShardSession | undefined> {
    const { run, aside = "" } = this.#orders ?? {};
    const key = run && keyOf(run);
    if (this.#session !== undefined && this.#session.key === key && aside === "") {
      return this.#session.run;
    }
    if (run === undefined || key === undefined || aside !== "") {
      await this.#closeUnused();
      return undefined;
    }
    if (this.#unfit?.key === key) return undefined;
    const before = this.#session;
    // One that cannot be closed is not tried again for ever.
    this.#session = undefined;
    await before?.run.close();
    this.#set(WorkerState.LOADING);
    try {
      const open = this.#settings.open ?? RunSession.open;
      const opened = await open(run, this.#settings);
      this.#session = { key, run: opened };
      this.#usedAt = performance.now();
      this.#verified.add(run.modelSha256);
      return opened;
    } catch (error) {
      // Its trainer, or NATS, is away for a while; whatever else it is would be the same the next time.
      if (error instanceof BlobError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      this.#unfit = { key, reason };
      this.#settings.log.error(`Takes no jobs of run ${run.runId}: ${reason}`);
      return undefined;
    } finally {
      this.#set(WorkerState.IDLE);
    }
  }

  /** Between two trainers the model stays open: the next one most likely goes on with the run. */
  async #closeUnused(): Promise<void> {
    if (this.#session === undefined || performance.now() - this.#usedAt < KEPT_MS) return;
    const { run } = this.#session;
    this.#session = undefined;
    await run.close();
  }

  async #nextJob(): Promise<JsMsg | undefined> {
    const epoch = this.#orders?.epoch ?? "";
    const consumer: Consumer = await jetstream(this.#nats, { checkAPI: false })
      .consumers.get(JOB_STREAM, consumerName(epoch));
    // A request that a restart of NATS swallowed is not waited for; a job that answers it still is given out again.
    const late = new Promise<undefined>((wait) => setTimeout(wait, 5 * WAIT_MS));
    return await Promise.race([consumer.next({ expires: WAIT_MS }), late]) ?? undefined;
  }

  async #handle(message: JsMsg, session: ShardSession): Promise<void> {
    const { epoch = "", run } = this.#orders ?? {};
    let job: Job;
    try {
      job = fromBinary(JobSchema, message.data);
    } catch (error) {
      // No trainer's: given out again it would keep one worker after another.
      this.#settings.log.warn(`A message that is no job is dropped: ${error}`);
      return message.term();
    }
    // The run has changed while this worker waited.
    if (job.runId !== run?.runId) return message.nak(AGAIN_MS);
    const beat = setInterval(() => message.working(), HELLO_MS / 2);
    const begun = performance.now();
    this.#set(WorkerState.WORKING);
    let result: ShardResult | Error;
    try {
      checkVersion("The trainer", job.version);
      result = await session.compute(job);
      const seconds = (performance.now() - begun) / 1000;
      this.#secondsPerJob = this.#secondsPerJob === 0
        ? seconds
        : (1 - PACE) * this.#secondsPerJob + PACE * seconds;
    } catch (error) {
      result = error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#usedAt = performance.now();
      this.#set(WorkerState.IDLE);
    }
    // The next job is computed while the result of this one is told, and not more than one waits.
    await this.#telling;
    this.#telling = this.#tell(message, { job, epoch, result })
      .catch((error) => this.#settings.log.warn(`A result was not taken: ${error}`))
      .finally(() => clearInterval(beat));
  }

  async #tell(
    message: JsMsg,
    { job, epoch, result }: {
      readonly job: Job;
      readonly epoch: string;
      readonly result: ShardResult | Error;
    },
  ): Promise<void> {
    // The LoRA is gone with its iteration, or with the trainer: whoever gets the job next sees.
    if (result instanceof BlobError) return message.nak(AGAIN_MS);
    const failed = result instanceof Error;
    const gradients = result instanceof Error
      ? undefined
      : await this.#keeper.keep(encodeSafetensors({ ...result.gradients }));
    try {
      const outcome = outcomeOf(result, gradients);
      const told = this.#resultOf(job, outcome);
      const verdict = await this.#askVerdict(resultSubject(epoch), told);
      if (verdict === Verdict.DONE) message.ack();
      else message.nak(AGAIN_MS);
      if (failed) this.#jobsFailed++;
      else if (verdict === Verdict.DONE) this.#jobsDone++;
    } finally {
      if (gradients !== undefined) this.#keeper.drop(gradients);
    }
  }

  #resultOf({ offer, index }: Job, outcome: JobResult["outcome"]): JobResult {
    const { name: worker, hardware } = this.#settings;
    const version = CONTRACT_VERSION;
    return create(JobResultSchema, {
      ...{ version, offer, index, worker, outcome },
      hardware: hardware.name,
    });
  }

  /** What the trainer says of a result. Throws where none of this epoch is there any more. */
  async #askVerdict(subject: string, result: JobResult): Promise<Verdict> {
    const bytes = toBinary(JobResultSchema, result);
    const begun = performance.now();
    for (;;) {
      try {
        const answer = await this.#nats.request(subject, bytes, { timeout: ANSWER_MS });
        return fromBinary(ResultAnswerSchema, answer.data).verdict;
      } catch (error) {
        const isOver = !subject.endsWith(`.${this.#orders?.epoch}`);
        if (isOver || performance.now() - begun > UNHEARD_MS) throw error;
        await new Promise((wait) => setTimeout(wait, WAIT_MS / 4));
      }
    }
  }

  #set(state: WorkerState): void {
    this.#state = this.#draining.signal.aborted ? WorkerState.DRAINING : state;
  }
}

/** What a session is for: another run, configuration or model is another one. */
function keyOf(run: NonNullable<Orders["run"]>): string {
  return [run.runId, run.config?.sha256, run.modelSha256].join("/");
}

function outcomeOf(result: ShardResult | Error, gradients: Blob | undefined): JobResult["outcome"] {
  const shape = result instanceof Error
    ? {
      case: "fault" as const,
      value: { message: result.message, rewardAway: result instanceof UnavailableError },
    }
    : { case: "value" as const, value: valueOf(result, gradients) };
  return create(JobResultSchema, { outcome: shape }).outcome;
}

function valueOf(
  { loss, rewards, drift, seconds, cpuSeconds = 0 }: ShardResult,
  gradients: Blob | undefined,
) {
  return {
    loss,
    ...(gradients && { gradients }),
    rewards: Object.fromEntries(
      Object.entries(rewards).map(([name, { perImage, digest }]) => [
        name,
        { perImage: [...perImage], digest },
      ]),
    ),
    ...(drift !== undefined && { drift }),
    seconds: { ...seconds },
    cpuSeconds,
  };
}
