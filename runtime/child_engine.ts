import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Tensor } from "../autodiff/mod.ts";
import { checkTensor } from "./_check_tensor.ts";
import { encodeFrame, readFrame } from "./_frames.ts";
import { ALLOCATOR_ENV } from "./allocator_env.ts";
import { ignoreClosed } from "./_ignore_closed.ts";
import { type Reply, replySchema, type Request } from "./_messages.ts";
import { SerialQueue } from "./_serial_queue.ts";
import { EngineCrashedError, RuntimeError } from "./errors.ts";
import type {
  Engine,
  Feed,
  ModelSource,
  RunOptions,
  Session,
  SessionOptions,
  Tensors,
} from "./session.ts";

/** Options of a `ChildEngine`. */
export interface ChildEngineOptions {
  /** Shown in errors and logs. Default "engine". */
  readonly name?: string | undefined;
  /** Receives each line the process writes to stderr. Default: this process's stderr, with name and pid before it. */
  readonly onStderr?: ((line: string) => unknown) | undefined;
}

/** What came back of a request. */
interface Answer {
  readonly reply: Reply;
  readonly tensors: readonly Tensor[];
}

/** How many lines of stderr a crash is reported with, and how much of a line. */
const STDERR_LINES = 20;
const STDERR_LINE_LENGTH = 2000;

/**
 * Runs sessions in a child process of its own, so this one stays responsive, a crash is an error, and all memory
 * is freed by `close`. After a crash every call throws `EngineCrashedError`; open another engine then.
 */
export class ChildEngine implements Engine {
  /** Process id of the child. */
  readonly pid: number;
  readonly #name: string;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamBYOBReader;
  readonly #queue = new SerialQueue();
  /** Resolves when the process has ended, to the error calls fail with from then on. */
  readonly #ended: Promise<RuntimeError>;
  #closing = false;
  #failure: unknown;

  private constructor({ name = "engine", onStderr }: ChildEngineOptions) {
    const child = spawn();
    this.pid = child.pid;
    this.#name = name;
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#reader = child.stdout.getReader({ mode: "byob" });
    const prefix = `[${name} ${child.pid}]`;
    this.#ended = this.#watch(onStderr ?? ((line) => console.error(prefix, line)));
  }

  /** Starts the process and waits until it answers. */
  static async open(options: ChildEngineOptions = {}): Promise<ChildEngine> {
    const engine = new ChildEngine(options);
    await engine.#call({ op: "ping" });
    return engine;
  }

  async load(model: ModelSource, options: SessionOptions = {}): Promise<Session> {
    const { bytes, name, weightsRoot } = model;
    const tensor: Tensor = { dtype: "uint8", shape: [bytes.length], data: bytes };
    const { reply } = await this.#call({ op: "load", name, weightsRoot, options }, [tensor]);
    const { loaded } = reply;
    if (!loaded) throw new TypeError("Engine answered a load without a session");
    const { session, inputNames, outputNames } = loaded;
    return {
      inputNames,
      outputNames,
      run: (feeds, fetches = outputNames, options = {}) =>
        this.#run(session, { feeds, fetches, ...options }),
      dispose: () => ignoreClosed(this.#call({ op: "dispose", session })),
    };
  }

  async keep(name: string, tensor: Tensor): Promise<void> {
    checkTensor(`Tensor '${name}'`, tensor);
    await this.#call({ op: "keep", name }, [tensor]);
  }

  async forget(name: string): Promise<void> {
    await this.#call({ op: "forget", name });
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#queue.close(this.#closed());
    this.#kill();
    await this.#ended;
  }

  async #run(
    session: number,
    { feeds, fetches, signal }: RunOptions & {
      readonly feeds: Readonly<Record<string, Feed>>;
      readonly fetches: readonly string[];
    },
  ): Promise<Tensors> {
    const sent: string[] = [];
    const tensors: Tensor[] = [];
    const kept: [string, string][] = [];
    for (const [input, feed] of Object.entries(feeds)) {
      if ("kept" in feed) {
        kept.push([input, feed.kept]);
      } else {
        checkTensor(`Feed '${input}'`, feed);
        sent.push(input);
        tensors.push(feed);
      }
    }
    const request: Request = { op: "run", session, sent, kept, fetches: [...fetches] };
    const answer = await this.#call(request, tensors, signal);
    return Object.fromEntries(
      answer.tensors.map((tensor, i) => [answer.reply.names?.[i] ?? "", tensor]),
    );
  }

  #call(
    message: Request,
    tensors: readonly Tensor[] = [],
    signal?: AbortSignal,
  ): Promise<Answer> {
    return this.#queue.add(async () => {
      const answer = await this.#exchange(encodeFrame({ message, tensors }));
      const { error } = answer.reply;
      if (error) throw new RuntimeError(error.code, error.message);
      return answer;
    }, signal);
  }

  async #exchange(chunks: readonly Uint8Array[]): Promise<Answer> {
    try {
      // Each write waits until the pipe has taken the chunk, so at most one request is in flight.
      for (const chunk of chunks) await this.#writer.write(chunk);
      const frame = await readFrame((length) => this.#read(length));
      if (frame) return { reply: replySchema.parse(frame.message), tensors: frame.tensors };
    } catch (error) {
      this.#failure = error;
    }
    // The process has died, or what it says makes no sense, which no later answer can mend.
    this.#kill();
    throw await this.#ended;
  }

  async #read(length: number): Promise<Uint8Array | undefined> {
    // The reader refuses empty views.
    if (length === 0) return new Uint8Array();
    const { value } = await this.#reader.read(new Uint8Array(length), { min: length });
    return value?.length === length ? value : undefined;
  }

  #kill(): void {
    try {
      // It has nothing to save, and while it runs a model it hears nothing gentler.
      this.#child.kill("SIGTERM");
    } catch (error) {
      // Gone already.
      if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  async #watch(onStderr: (line: string) => unknown): Promise<RuntimeError> {
    const lines: string[] = [];
    for await (const line of linesOf(this.#child.stderr)) {
      lines.push(line);
      if (lines.length > STDERR_LINES) lines.shift();
      onStderr(line);
    }
    const { code, signal } = await this.#child.status;
    const error = this.#closing ? this.#closed() : this.#crashed({ code, signal, stderr: lines });
    this.#queue.close(error);
    await Promise.allSettled([this.#writer.abort(), this.#reader.cancel()]);
    return error;
  }

  #closed(): RuntimeError {
    return new RuntimeError("closed", `Engine '${this.#name}' is closed`);
  }

  #crashed(exit: EngineCrashedError["exit"]): EngineCrashedError {
    const how = exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`;
    return new EngineCrashedError(
      [`Engine '${this.#name}' (pid ${this.pid}) ended with ${how}`, ...exit.stderr].join("\n  "),
      exit,
      { cause: this.#failure },
    );
  }
}

function spawn(): Deno.ChildProcess {
  const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));
  // Weights may lie anywhere, so it may read; of native code it may load the binding only.
  const binding = dirname(dirname(path(import.meta.resolve("onnxruntime-node"))));
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      // The packages are those this process runs with: nothing to resolve, lock or fetch again.
      "--node-modules-dir=manual",
      "--no-lock",
      "--cached-only",
      `--config=${path("../deno.json")}`,
      "--allow-read",
      `--allow-ffi=${binding}`,
      path("./engine_main.ts"),
    ],
    env: ALLOCATOR_ENV,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
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
