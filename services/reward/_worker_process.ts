import { type Frame, FrameProcess, type FrameProcessOptions } from "../../runtime/mod.ts";
import { raceAbort, SerialQueue } from "../../base/mod.ts";

/** A reward's program. */
export interface WorkerOptions extends FrameProcessOptions {
  /** Shown in errors. */
  readonly name: string;
}

/** The process ended, by itself or because it did not answer. It is of no further use. */
export class WorkerEndedError extends Error {
  override readonly name = "WorkerEndedError";
}

/** A child process that is asked by frames, one at a time, and is given up when it does not answer. */
export class WorkerProcess {
  /** Resolves when the process has ended, to the error that calls fail with from then on. */
  readonly ended: Promise<WorkerEndedError>;
  readonly #process: FrameProcess;
  /** Settles when the call before has. */
  readonly #turns = new SerialQueue();
  #why = "";

  constructor({ name, ...options }: WorkerOptions) {
    this.#process = new FrameProcess(options);
    this.ended = this.#process.ended.then(({ code, signal, stderr, cause }) => {
      const how = this.#why || (signal === null ? `ended with code ${code}` : `ended by ${signal}`);
      const lines = [`Process ${this.pid} of ${name} ${how}`, ...stderr];
      return new WorkerEndedError(lines.join("\n  "), { cause });
    });
  }

  /** Process id of the child. */
  get pid(): number {
    return this.#process.pid;
  }

  /**
   * Sends a frame and answers the one that comes back. A signal that aborts before the turn of the call takes it back,
   * later it only ends the waiting. A process that does not answer in time is ended.
   */
  call(
    frame: Frame,
    { signal, timeoutMs }: { readonly signal?: AbortSignal; readonly timeoutMs: number },
  ): Promise<Frame> {
    return raceAbort(this.#turns.add(() => this.#exchange(frame, timeoutMs), signal), signal);
  }

  /** Ends the process. Safe to call twice. */
  async close(why = "was closed"): Promise<void> {
    this.#why ||= why;
    this.#process.kill();
    await this.ended;
  }

  async #exchange(frame: Frame, timeoutMs: number): Promise<Frame> {
    const timer = setTimeout(
      () => void this.close(`did not answer within ${timeoutMs / 1000} s`),
      timeoutMs,
    );
    try {
      const answer = await this.#process.exchange(frame);
      if (answer) return answer;
    } finally {
      clearTimeout(timer);
    }
    throw await this.ended;
  }
}
