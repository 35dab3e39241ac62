import { TrainerService } from "../../proto/mod.ts";
import type { SessionOptions } from "../../runtime/mod.ts";
import { type LogLevel } from "../../base/mod.ts";
import { type ClientTls, type Handlers, remoteHandlers } from "../rpc/mod.ts";
import type { ClusterOptions } from "./cluster/mod.ts";
import type { MetricFamily } from "../rpc/metrics/mod.ts";

/** What a trainer works with. */
export interface TrainerThreadOptions {
  /** Absolute paths of the folders of models and of runs. */
  readonly models: string;
  readonly runs: string;
  /** Addresses of reward servers by name. */
  readonly rewards: ReadonlyMap<string, string>;
  /** For reward servers at "grpcs://" addresses. */
  readonly rewardTls: ClientTls;
  readonly session: SessionOptions;
  readonly logLevel: LogLevel;
  /** Workers compute what runs train on. Default: this process does. */
  readonly cluster?: ClusterOptions | undefined;
}

/** What the thread is asked; it answers on the port. */
export type Question =
  & { readonly port: MessagePort }
  & (
    | { readonly what: "open"; readonly options: TrainerThreadOptions; readonly calls: MessagePort }
    | { readonly what: "families" }
    | { readonly what: "close" }
  );

/** The answer to "open": what went wrong, if anything. */
export interface Opened {
  readonly fault?: string;
}

/**
 * A store of runs that trains in a thread of its own: building graphs, optimizer steps and pictures take their time, and
 * the thread that answers calls does none of it.
 */
export class TrainerThread {
  /** Of the trainer service. */
  readonly handlers: Handlers<typeof TrainerService>;
  readonly #worker: Worker;

  private constructor(worker: Worker, calls: MessagePort) {
    this.#worker = worker;
    this.handlers = remoteHandlers(TrainerService, calls);
  }

  /** A thread that loads its program, to be started. A trainer that stands by has it ready. */
  static load(): Worker {
    return new Worker(new URL("./trainer_thread_main.ts", import.meta.url), { type: "module" });
  }

  /** Opens the folder of runs; those that had not ended go on. Throws an `Error` where it cannot be used. */
  static async start(
    options: TrainerThreadOptions,
    worker: Worker = TrainerThread.load(),
  ): Promise<TrainerThread> {
    const { port1, port2 } = new MessageChannel();
    const { fault } = await ask<Opened>(worker, { what: "open", options, calls: port2 });
    if (fault === undefined) return new TrainerThread(worker, port1);
    worker.terminate();
    throw new Error(fault);
  }

  /** What is counted about the runs. */
  families(): Promise<MetricFamily[]> {
    return ask(this.#worker, { what: "families" });
  }

  /** Lets the present iteration end, writes a checkpoint and ends the thread. */
  async close(): Promise<void> {
    await ask(this.#worker, { what: "close" });
    this.#worker.terminate();
  }
}

type WithoutPort<T> = T extends unknown ? Omit<T, "port"> : never;

function ask<T>(worker: Worker, question: WithoutPort<Question>): Promise<T> {
  const { port1, port2 } = new MessageChannel();
  const { promise, resolve } = Promise.withResolvers<T>();
  port1.onmessage = ({ data }: MessageEvent<T>) => {
    port1.close();
    resolve(data);
  };
  const ports = "calls" in question ? [port2, question.calls] : [port2];
  worker.postMessage({ ...question, port: port2 }, ports);
  return promise;
}
