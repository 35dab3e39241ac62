interface Job {
  start(): Promise<void>;
  cancel(reason: unknown): void;
}

/** Runs tasks one at a time, in order. */
export class SerialQueue {
  readonly #waiting = new Set<Job>();
  #draining: Promise<void> | undefined;
  #closed: Error | undefined;

  /** Runs `task` after those before it. An abort before it starts takes it off the queue. */
  add<T>(task: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const leave = () => {
      this.#waiting.delete(job);
      signal?.removeEventListener("abort", abort);
    };
    const abort = () => job.cancel(signal?.reason);
    const job: Job = {
      start: async () => {
        leave();
        try {
          resolve(await task());
        } catch (error) {
          reject(error);
        }
      },
      cancel: (reason) => {
        leave();
        reject(reason);
      },
    };
    signal?.addEventListener("abort", abort);
    this.#waiting.add(job);
    this.#draining ??= this.#drain();
    return promise;
  }

  /** Refuses further tasks and those that wait; the one that runs goes on. The first reason given stays. */
  close(reason: Error): void {
    this.#closed ??= reason;
    for (const job of this.#waiting) job.cancel(this.#closed);
  }

  /** Resolves when no task runs or waits. */
  async idle(): Promise<void> {
    await this.#draining;
  }

  async #drain(): Promise<void> {
    // A set iterates in order of insertion, also over what is added meanwhile.
    for (const job of this.#waiting) await job.start();
    this.#draining = undefined;
  }
}
