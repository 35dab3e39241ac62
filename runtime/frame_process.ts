import { fileURLToPath } from "node:url";
import { encodeFrame, type Frame, readFrame } from "./_frames.ts";
import { ENGINE_ENV } from "./engine_env.ts";
import { giveWay } from "./give_way.ts";

/** A program that answers frames on stdin by frames on stdout, one after another, and ends with stdin. */
export interface FrameProcessOptions {
  /** The program. */
  readonly entry: URL;
  /** Deno's permission flags for it. */
  readonly permissions: readonly string[];
  /** Receives each line it writes to stderr. */
  readonly onStderr: (line: string) => void;
}

/** How a process has ended. */
export interface ProcessEnd {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  /** The last lines of its stderr. */
  readonly stderr: readonly string[];
  /** What was wrong with its last answer, where that is why it was ended. */
  readonly cause: unknown;
}

/** How many lines of stderr are kept, and how much of a line. */
const STDERR_LINES = 20;
const STDERR_LINE_LENGTH = 2000;
/**
 * A child process that computes, at a lower priority than those that answer: with all cores busy, an answer would wait
 * its turn behind the work.
 */
export class FrameProcess {
  /** Resolves when the process has ended. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamBYOBReader;
  #cause: unknown;

  constructor({ entry, permissions, onStderr }: FrameProcessOptions) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        // The packages are those this process runs with: nothing to resolve, lock or fetch again.
        "--node-modules-dir=manual",
        "--no-lock",
        "--cached-only",
        // Lets the program collect its garbage when it has loaded its model.
        "--v8-flags=--expose-gc",
        `--config=${fileURLToPath(new URL("../deno.json", import.meta.url))}`,
        ...permissions,
        entry.href,
      ],
      env: { ...ENGINE_ENV, NO_COLOR: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    giveWay(this.#child.pid);
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.getReader({ mode: "byob" });
    this.ended = this.#watch(onStderr);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /**
   * Sends a frame and answers the one that comes back, or undefined when the process ends instead; one that answers
   * nonsense is ended. To be called again only when that has settled.
   */
  async exchange(frame: Frame): Promise<Frame | undefined> {
    const chunks = encodeFrame(frame);
    try {
      // Each write waits until the pipe has taken the chunk.
      for (const chunk of chunks) await this.#writer.write(chunk);
      const answer = await readFrame((length) => this.#read(length));
      if (answer) return answer;
    } catch (error) {
      this.#cause = error;
    }
    // It has died, or what it says makes no sense, which no later answer can mend.
    this.kill();
    await this.ended;
    return undefined;
  }

  /** Ends the process. It has nothing to save, and while a model runs it hears nothing gentler. */
  kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      // Gone already.
      if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  async #read(length: number): Promise<Uint8Array | undefined> {
    // The reader refuses empty views.
    if (length === 0) return new Uint8Array();
    const { value } = await this.#reader.read(new Uint8Array(length), { min: length });
    return value?.length === length ? value : undefined;
  }

  async #watch(onStderr: (line: string) => void): Promise<ProcessEnd> {
    const stderr: string[] = [];
    for await (const line of linesOf(this.#child.stderr)) {
      stderr.push(line);
      if (stderr.length > STDERR_LINES) stderr.shift();
      onStderr(line);
    }
    const { code, signal } = await this.#child.status;
    await Promise.allSettled([this.#writer.abort(), this.#reader.cancel()]);
    return { code, signal, stderr, cause: this.#cause };
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
