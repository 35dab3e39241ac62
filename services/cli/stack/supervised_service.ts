import { ROOT } from "./read_stack.ts";
import { checkHealth } from "./health.ts";
import { LogFile } from "./log_file.ts";
import { localAddress, type ServiceDefinition } from "./service_definition.ts";
import { ServiceProcess } from "./service_process.ts";
import type { ServiceStatus } from "./state_folder.ts";
import { backoff, raceAbort } from "../../../base/mod.ts";
import { type ClientTls, secured } from "../../rpc/mod.ts";

/** How patient the supervisor of a service is, in milliseconds. */
export interface Patience {
  /** Between health checks, and for their answer. */
  readonly check: number;
  /** A service that lives and has not answered for this long is ended, and started again. */
  readonly hung: number;
  /** Before the first new start; doubles with each, up to the longest. */
  readonly firstWait: number;
  readonly longestWait: number;
}

const PATIENCE: Patience = { check: 5000, hung: 60_000, firstWait: 500, longestWait: 30_000 };

/** After this long without trouble the next wait is the first one again. */
const STEADY_MS = 60_000;
/** Loading big weights takes its time. */
const READY_WITHIN_MS = 15 * 60_000;

/** How a supervised service is run. */
export interface SupervisedOptions {
  /** Folder it runs in. */
  readonly folder: string;
  readonly logFile: string;
  /** What the gateway asks for. */
  readonly token?: string | undefined;
  /** For a service that serves over TLS. */
  readonly tls?: ClientTls;
  /** Told when its status changes. */
  readonly onChange: () => void;
  readonly patience?: Patience;
}

/** A service that is started again whenever it ends, until it is told to stop. */
export class SupervisedService {
  readonly definition: ServiceDefinition;
  /** Resolves when it is ready for the first time; rejects where it ends before. */
  readonly firstReady: Promise<void>;
  readonly #options: SupervisedOptions;
  readonly #patience: Patience;
  readonly #log: LogFile;
  readonly #stopping = new AbortController();
  readonly #ready = Promise.withResolvers<void>();
  readonly #done: Promise<void>;
  #process: ServiceProcess | undefined;
  #status: ServiceStatus;

  constructor(definition: ServiceDefinition, options: SupervisedOptions) {
    this.definition = definition;
    this.#options = options;
    this.#patience = options.patience ?? PATIENCE;
    this.#log = new LogFile(options.logFile);
    this.firstReady = this.#ready.promise;
    this.firstReady.catch(() => {});
    this.#status = {
      name: definition.name,
      kind: definition.kind,
      address: addressOf(definition),
      state: "starting",
      reason: "",
      since: new Date().toISOString(),
      restarts: 0,
      log: options.logFile,
    };
    this.#done = this.#run();
  }

  get status(): ServiceStatus {
    return this.#status;
  }

  /** Lets it drain; kills it when it has not ended after `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort(new Error("Stopped"));
    if (this.#process) this.#set({ state: "stopping", reason: "" });
    await this.#process?.stop(graceMs);
    await this.#done;
    this.#log.close();
    const { pid: _, ...status } = this.#status;
    this.#status = status;
    this.#set({ state: "stopped", reason: "" });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { firstWait, longestWait } = this.#patience;
    const fresh = () => backoff({ first: firstWait, longest: longestWait });
    let waits = fresh();
    while (!signal.aborted) {
      const started = Date.now();
      const why = await this.#oneLife();
      if (signal.aborted) return;
      if (Date.now() - started > STEADY_MS) waits = fresh();
      const wait = waits.next().value;
      const { pid: _, ...status } = this.#status;
      this.#status = status;
      this.#set({ state: "restarting", reason: why, restarts: status.restarts + 1 });
      this.#log.line(`drtune: ${why}; starting again in ${wait / 1000} s`);
      await sleep(wait, signal);
    }
  }

  /** Answers why it ended. */
  async #oneLife(): Promise<string> {
    const { definition } = this;
    const { signal } = this.#stopping;
    let process: ServiceProcess;
    try {
      process = await ServiceProcess.start({
        name: definition.name,
        entry: `${ROOT}${definition.entry}`,
        args: definition.args,
        permissions: definition.permissions,
        env: definition.env,
        folder: this.#options.folder,
        readyWithinMs: READY_WITHIN_MS,
        onLog: (line) => this.#log.line(line),
      }, signal);
    } catch (error) {
      this.#ready.reject(error);
      return error instanceof Error ? error.message : String(error);
    }
    this.#process = process;
    this.#set({ state: "ready", reason: "", pid: process.pid });
    this.#ready.resolve();
    const ended = new AbortController();
    // A worker listens to nothing: the trainer notices one that hangs.
    const watching = definition.kind === "worker" ? undefined : this.#watch(process, ended.signal);
    const how = await process.ended;
    this.#process = undefined;
    ended.abort();
    await watching;
    return `Ended with ${how}`;
  }

  /** Asks how it is until it ends. */
  async #watch(process: ServiceProcess, ended: AbortSignal): Promise<void> {
    const { definition } = this;
    const { check, hung } = this.#patience;
    let lastAnswer = Date.now();
    while (!ended.aborted) {
      await sleep(check, ended);
      if (ended.aborted || process.stopping) return;
      const { address } = this.#status;
      const { healthy, status } = await checkHealth(
        definition.health === undefined ? `http://${address}` : address,
        {
          ...(definition.health !== undefined && { service: definition.health }),
          token: this.#options.token,
          tls: this.#options.tls,
          timeoutMs: check,
          signal: ended,
        },
      ).catch(() => ({ healthy: false, status: "ended" }));
      if (ended.aborted || process.stopping) return;
      const state = healthy ? "ready" : "unhealthy";
      if (this.#status.state !== state) this.#set({ state, reason: healthy ? "" : status });
      // One that says it is not serving is at work on it, such as a reward whose worker is loading again.
      if (healthy || status === "NOT_SERVING") lastAnswer = Date.now();
      if (Date.now() - lastAnswer > hung) {
        this.#log.line(`drtune: no answer for ${hung / 1000} s: ${status}`);
        await process.stop(check);
        return;
      }
    }
  }

  #set(change: Partial<ServiceStatus>): void {
    const since = change.state === this.#status.state
      ? this.#status.since
      : new Date().toISOString();
    this.#status = { ...this.#status, ...change, since };
    this.#options.onChange();
  }
}

/** Ends early with the signal, without an error. */
async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await raceAbort(promise, signal).catch(() => {});
  clearTimeout(timer);
}

/** Where a service listens; empty for one that does not. */
function addressOf(definition: ServiceDefinition): string {
  if (definition.kind === "worker") return "";
  return definition.secure ? secured(localAddress(definition)) : localAddress(definition);
}
