import { fileURLToPath } from "node:url";
import { ALLOCATOR_ENV, encodeFrame, type Frame, readFrame } from "../../runtime/mod.ts";
import { raceAbort } from "../common/mod.ts";

/** A program that answers frames on stdin by frames on stdout, one after another. */
export interface WorkerOptions {
  /** The program. */
  readonly entry: URL;
  /** Deno's permission flags for it. */
  readonly permissions: readonly string[];
  /** Shown in errors. */
  readonly name: string;
  /** Receives each line it writes to stderr. */
  readonly onStderr: (line: string) => void;
}

/** The process ended, by itself or because it did not answer. It is of no further use. */
export class WorkerEndedError extends Error {
  override readonly name = "WorkerEndedError";
}

/** How many lines of stderr an unexpected end is reported with, and how much of a line. */
const STDERR_LINES = 10;
const STDERR_LINE_LENGTH = 500;

/** A child process that is asked by frames, one at a time. */
export class WorkerProcess {
  /** Resolves when the process has ended, to the error that calls fail with from then on. */
  readonly ended: Promise<WorkerEndedError>;
  readonly #name: string;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamBYOBReader;
  /** Settles when the call before has. */
  #last: Promise<unknown> = Promise.resolve();
  #why = "";
  #failure: unknown;

  constructor({ entry, permissions, name, onStderr }: WorkerOptions) {
    this.#name = name;
    const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", `--config=${config}`, ...permissions, entry.href],
      env: { ...ALLOCATOR_ENV, NO_COLOR: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.getReader({ mode: "byob" });
    this.ended = this.#watch(onStderr);
  }

  /** Process id of the child. */
  get pid(): number {
    return this.#child.pid;
  }

  /**
   * Sends a frame and answers the one that comes back. A signal that aborts before the turn of the call takes it back,
   * later it only ends the waiting. A process that does not answer in time is ended.
   */
  call(
    frame: Frame,
    { signal, timeoutMs }: { readonly signal?: AbortSignal; readonly timeoutMs: number },
  ): Promise<Frame> {
    const exchange = this.#last.then(() => {
      signal?.throwIfAborted();
      return this.#exchange(frame, timeoutMs);
    });
    this.#last = exchange.catch(() => {});
    return raceAbort(exchange, signal);
  }

  /** Ends the process. Safe to call twice. */
  async close(why = "was closed"): Promise<void> {
    this.#why ||= why;
    this.#kill();
    await this.ended;
  }

  #kill(): void {
    try {
      // It has nothing to save, and while a model runs it hears nothing gentler.
      this.#child.kill("SIGKILL");
    } catch (error) {
      // Gone already.
      if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  async #exchange(frame: Frame, timeoutMs: number): Promise<Frame> {
    const timer = setTimeout(
      () => void this.close(`did not answer within ${timeoutMs / 1000} s`),
      timeoutMs,
    );
    try {
      for (const chunk of encodeFrame(frame)) await this.#writer.write(chunk);
      const answer = await readFrame((length) => this.#read(length));
      if (answer) return answer;
    } catch (error) {
      this.#failure = error;
    } finally {
      clearTimeout(timer);
    }
    // It has died, or what it says makes no sense, which no later answer can mend.
    this.#kill();
    throw await this.ended;
  }

  async #read(length: number): Promise<Uint8Array | undefined> {
    // The reader refuses empty views.
    if (length === 0) return new Uint8Array();
    const { value } = await this.#reader.read(new Uint8Array(length), { min: length });
    return value?.length === length ? value : undefined;
  }

  async #watch(onStderr: (line: string) => void): Promise<WorkerEndedError> {
    const last: string[] = [];
    for await (const line of linesOf(this.#child.stderr)) {
      last.push(line);
      if (last.length > STDERR_LINES) last.shift();
      onStderr(line);
    }
    const { code, signal } = await this.#child.status;
    await Promise.allSettled([this.#writer.abort(), this.#reader.cancel()]);
    const how = this.#why || (signal === null ? `ended with code ${code}` : `ended by ${signal}`);
    return new WorkerEndedError(
      [`Process ${this.pid} of ${this.#name} ${how}`, ...last].join("\n  "),
      { cause: this.#failure },
    );
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = (lines.pop() ?? "").slice(0, STDERR_LINE_LENGTH);
    for (const line of lines) yield line.slice(0, STDERR_LINE_LENGTH);
  }
  if (rest !== "") yield rest;
}
