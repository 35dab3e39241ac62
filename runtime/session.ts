import type { Tensor } from "../autodiff/mod.ts";
import type { Provider } from "../compile/mod.ts";

/** Named tensors, as fed to or fetched from a session. */
export type Tensors = Record<string, Tensor>;

/**
 * A model ready to be loaded: serialized ONNX bytes, and the folder its external-data initializers lie in.
 * Locations inside the model are relative to that folder and may not leave it, through links neither.
 */
export interface ModelSource {
  readonly bytes: Uint8Array;
  /** Absolute folder of the weight files the graph refers to; absent when it refers to none. */
  readonly weightsRoot?: string;
  /** Name shown in errors and logs. */
  readonly name?: string;
}

export { type Provider, PROVIDERS } from "../compile/mod.ts";

/** How a session is created. Every field is optional; the defaults suit one model that owns the machine. */
export interface SessionOptions {
  /** Default "cpu". */
  readonly provider?: Provider | undefined;
  /** Threads inside one operator; default: all cores. Results do not depend on it beyond float rounding. */
  readonly intraOpNumThreads?: number | undefined;
  /** Let idle threads spin. Faster for back-to-back runs, harmful where several processes share cores. Default false. */
  readonly allowSpinning?: boolean | undefined;
  /** Default "all". */
  readonly graphOptimizationLevel?: "disabled" | "basic" | "extended" | "all" | undefined;
  /**
   * Copy weights into the layout the CPU kernels like best, once per operator that reads them. Default true.
   * When false, float32 weights stay mapped from their file: loading is immediate, and memory is shared
   * between all sessions and processes that read the file; matrix products over few rows are slower.
   */
  readonly prepackWeights?: boolean | undefined;
  /**
   * Keep the memory of a run for the next one. Default true. When false it goes back to the system, which costs a few
   * percent of the time; then several sessions, used in turn, take the memory of one.
   */
  readonly keepMemory?: boolean | undefined;
  /**
   * Compute what depends on weights alone when the model is loaded, and keep it. Default true. When false it is computed
   * in every run: loading is immediate, and weights that are cast or turned round are not held a second time.
   */
  readonly foldConstants?: boolean | undefined;
}

/** A place for one tensor in the engine that made it. Empty until `Engine.keep` or a run fills it. */
export interface Place {
  /** Shown in errors. Places of one name are places of their own. */
  readonly place: string;
}

/** A feed: a tensor sent with this run, or the place in the engine where one is kept. */
export type Feed = Tensor | Place;

/** Options of one run. */
export interface RunOptions {
  /** Takes the run off the queue. A run that has started finishes: ONNX Runtime cannot be interrupted. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Outputs to keep in the engine, each in a place, as `Engine.keep` would, instead of returning them: what one model
   * makes and another reads need not leave the engine.
   */
  readonly keep?: Readonly<Record<string, Place>> | undefined;
}

/** A loaded model. Runs of one engine happen one at a time, in the order of the calls. */
export interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /**
   * Runs the model. `fetches` defaults to all outputs that are not kept. Feeds are not copied: leave them unchanged until the
   * promise settles. Outputs belong to the caller.
   * Throws `RuntimeError` when a feed is missing, unknown, or of another dtype or shape than the model
   * declares, and the signal's reason when it aborts before the run starts.
   */
  run(
    feeds: Readonly<Record<string, Feed>>,
    fetches?: readonly string[],
    options?: RunOptions,
  ): Promise<Tensors>;
  /** Frees the model's memory after the runs already called. Further runs throw. Safe to call twice. */
  dispose(): Promise<void>;
}

/** Something that holds sessions: this process, or a child process of its own. */
export interface Engine {
  /** The process that holds the sessions. */
  readonly pid: number;
  load(model: ModelSource, options?: SessionOptions): Promise<Session>;
  /** An empty place in this engine. */
  place(name: string): Place;
  /** Keeps a copy of a tensor in a place, so that runs can refer to it. Replaces an older one. */
  keep(place: Place, tensor: Tensor): Promise<void>;
  /** Empties places; runs already called still see what was there. */
  forget(...places: readonly Place[]): Promise<void>;
  /** CPU seconds (user and system) that the process which holds the sessions has used so far. */
  cpuSeconds(): Promise<number>;
  /** Ends the engine and everything it holds. Calls not finished throw. Safe to call twice. */
  close(): Promise<void>;
}
