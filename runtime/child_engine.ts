import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Tensor } from "../autodiff/mod.ts";
import { CUDA_FOLDER } from "./cuda_libraries.ts";
import { checkTensor } from "./_check_tensor.ts";
import { FrameProcess, type ProcessEnd } from "./frame_process.ts";
import { ignoreClosed } from "./_ignore_closed.ts";
import { type Reply, replySchema, type Request, type SentPlace } from "./_messages.ts";
import { SerialQueue } from "../base/mod.ts";
import { EngineCrashedError, RuntimeError } from "./errors.ts";
import type {
  Engine,
  Feed,
  ModelSource,
  Place,
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

/**
 * Runs sessions in a child process of its own, so this one stays responsive, a crash is an error, and all memory
 * is freed by `close`. After a crash every call throws `EngineCrashedError`; open another engine then.
 */
export class ChildEngine implements Engine {
  readonly #name: string;
  readonly #process: FrameProcess;
  readonly #queue = new SerialQueue();
  /** Resolves when the process has ended, to the error calls fail with from then on. */
  readonly #ended: Promise<RuntimeError>;
  readonly #places = new WeakMap<Place, number>();
  #lastPlace = 0;
  #closing = false;

  private constructor({ name = "engine", onStderr }: ChildEngineOptions) {
    const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));
    // Weights may lie anywhere, so it may read; of native code it may load the binding and CUDA's libraries only.
    const binding = dirname(dirname(path(import.meta.resolve("onnxruntime-node"))));
    this.#name = name;
    this.#process = new FrameProcess({
      entry: new URL("./engine_main.ts", import.meta.url),
      permissions: ["--allow-read", `--allow-ffi=${binding},${CUDA_FOLDER}`],
      onStderr: onStderr ?? ((line) => console.error(`[${name} ${this.pid}]`, line)),
    });
    this.#ended = this.#watch();
  }

  /** Process id of the child. */
  get pid(): number {
    return this.#process.pid;
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
      run: (feeds, fetches, options = {}) => this.#run(session, { feeds, fetches, ...options }),
      dispose: () => ignoreClosed(this.#call({ op: "dispose", session })),
    };
  }

  place(name: string): Place {
    const place = { place: name };
    this.#places.set(place, ++this.#lastPlace);
    return place;
  }

  async keep(place: Place, tensor: Tensor): Promise<void> {
    checkTensor(`Tensor '${place.place}'`, tensor);
    await this.#call({ op: "keep", place: this.#sent(place) }, [tensor]);
  }

  async forget(...places: readonly Place[]): Promise<void> {
    await this.#call({ op: "forget", places: places.map((place) => this.#sent(place)) });
  }

  async cpuSeconds(): Promise<number> {
    const { reply: { cpuSeconds } } = await this.#call({ op: "cpu" });
    if (cpuSeconds === undefined) throw new TypeError("Engine answered without its CPU seconds");
    return cpuSeconds;
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#queue.close(this.#closed());
    this.#process.kill();
    await this.#ended;
  }

  async #run(
    session: number,
    { feeds, fetches, signal, keep = {} }: RunOptions & {
      readonly feeds: Readonly<Record<string, Feed>>;
      readonly fetches: readonly string[] | undefined;
    },
  ): Promise<Tensors> {
    const sent: string[] = [];
    const tensors: Tensor[] = [];
    const kept: [string, SentPlace][] = [];
    for (const [input, feed] of Object.entries(feeds)) {
      if ("place" in feed) {
        kept.push([input, this.#sent(feed)]);
      } else {
        checkTensor(`Feed '${input}'`, feed);
        sent.push(input);
        tensors.push(feed);
      }
    }
    const request: Request = {
      op: "run",
      session,
      sent,
      kept,
      fetches: fetches && [...fetches],
      keep: Object.entries(keep).map(([output, place]) => [output, this.#sent(place)]),
    };
    const answer = await this.#call(request, tensors, signal);
    return Object.fromEntries(
      answer.tensors.map((tensor, i) => [answer.reply.names?.[i] ?? "", tensor]),
    );
  }

  /** A place as its process knows it. Throws `RuntimeError` "feed_invalid" for that of another engine. */
  #sent(place: Place): SentPlace {
    const id = this.#places.get(place);
    if (id !== undefined) return { id, name: place.place };
    throw new RuntimeError(
      "feed_invalid",
      `'${place.place}' is a place of another engine than '${this.#name}'`,
    );
  }

  #call(
    message: Request,
    tensors: readonly Tensor[] = [],
    signal?: AbortSignal,
  ): Promise<Answer> {
    return this.#queue.add(async () => {
      const frame = await this.#process.exchange({ message, tensors });
      if (!frame) throw await this.#ended;
      const reply = replySchema.parse(frame.message);
      const { error } = reply;
      if (error) throw new RuntimeError(error.code, error.message);
      return { reply, tensors: frame.tensors };
    }, signal);
  }

  async #watch(): Promise<RuntimeError> {
    const end = await this.#process.ended;
    const error = this.#closing ? this.#closed() : this.#crashed(end);
    this.#queue.close(error);
    return error;
  }

  #closed(): RuntimeError {
    return new RuntimeError("closed", `Engine '${this.#name}' is closed`);
  }

  #crashed({ cause, ...exit }: ProcessEnd): EngineCrashedError {
    const how = exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`;
    return new EngineCrashedError(
      [`Engine '${this.#name}' (pid ${this.pid}) ended with ${how}`, ...exit.stderr].join("\n  "),
      exit,
      { cause },
    );
  }
}
