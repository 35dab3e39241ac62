import { type Builder, byteLengthOf, serialize, type Value } from "../autodiff/mod.ts";
import type { Engine, ModelSource, Session, SessionOptions } from "../runtime/mod.ts";

/** A graph and the values it is asked for. */
export interface WrittenGraph {
  readonly b: Builder;
  readonly outputs: Readonly<Record<string, Value>>;
  /** Keep the memory of a run for the next one, unless the cache's options say otherwise. Default false. */
  readonly keepMemory?: boolean;
}

/** What a session takes beside what it holds. */
const OVERHEAD_BYTES = 2 ** 20;

interface Entry {
  readonly session: Promise<Session>;
  readonly bytes: number;
  users: number;
}

/**
 * Sessions by name, made when first used. Beyond `maxBytes` of what they hold those not in use are freed, the longest
 * unused first.
 */
export class SessionCache {
  readonly #engine: Engine;
  readonly #options: SessionOptions;
  readonly #weightsRoot: string | undefined;
  readonly #maxBytes: number;
  /** In the order of last use. */
  readonly #entries = new Map<string, Entry>();

  constructor(engine: Engine, { maxBytes, weightsRoot, ...options }: SessionOptions & {
    readonly maxBytes: number;
    readonly weightsRoot?: string | undefined;
  }) {
    this.#engine = engine;
    this.#options = options;
    this.#weightsRoot = weightsRoot;
    this.#maxBytes = maxBytes;
  }

  /** Runs `action` with the session of this name, which is not freed meanwhile. */
  async use<T>(
    name: string,
    write: () => WrittenGraph,
    action: (session: Session) => Promise<T>,
  ): Promise<T> {
    const entry = this.#entries.get(name) ?? this.#load(name, write());
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    entry.users++;
    try {
      await this.#shrink();
      return await action(await entry.session);
    } finally {
      entry.users--;
    }
  }

  /** Frees all sessions. */
  async dispose(): Promise<void> {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    await Promise.all(entries.map(free));
  }

  #load(name: string, graph: WrittenGraph): Entry {
    const { b, outputs } = graph;
    const model: ModelSource = {
      name,
      bytes: serialize(b, outputs),
      ...(this.#weightsRoot === undefined ? {} : { weightsRoot: this.#weightsRoot }),
    };
    const converted = convertedBytes(b);
    const { keepMemory = graph.keepMemory ?? false, graphOptimizationLevel } = this.#options;
    const session = this.#engine.load(model, {
      ...this.#options,
      keepMemory,
      // Conversions are to be done once.
      ...(converted > 0 && graphOptimizationLevel === "disabled" && {
        graphOptimizationLevel: "basic",
      }),
    });
    const kept = keepMemory ? computedBytes(b) : 0;
    const bytes = constantBytes(b) + converted + kept + OVERHEAD_BYTES;
    const entry = { session, bytes, users: 0 };
    session.catch(() => {
      if (this.#entries.get(name) === entry) this.#entries.delete(name);
    });
    return entry;
  }

  async #shrink(): Promise<void> {
    let total = [...this.#entries.values()].reduce((sum, { bytes }) => sum + bytes, 0);
    for (const [name, entry] of this.#entries) {
      if (total <= this.#maxBytes) return;
      if (entry.users > 0) continue;
      this.#entries.delete(name);
      total -= entry.bytes;
      await free(entry);
    }
  }
}

async function free({ session }: Entry): Promise<void> {
  // A session that could not be loaded has told those who asked for it.
  const loaded = await session.catch(() => undefined);
  await loaded?.dispose();
}

/**
 * Bytes of weights that a session converts to float32. Those in float32 stay in their file, where all sessions share
 * them.
 */
function convertedBytes(b: Builder): number {
  return bytesOf(readBy(b, ({ source, dtype }) => source.kind === "weight" && dtype !== "float32"));
}

function constantBytes(b: Builder): number {
  return bytesOf(readBy(b, ({ source }) => source.kind === "constant"));
}

/** Bytes of all that the forward pass computes: at most that much of a run is alive at once, gradient included. */
function computedBytes(b: Builder): number {
  return bytesOf(b.nodes.flatMap(({ op, outputs }) => op === "Reshape" ? [] : outputs));
}

function readBy(b: Builder, choose: (v: Value) => boolean): Iterable<Value> {
  const read = b.nodes.flatMap(({ inputs }) => inputs.filter((v) => v !== undefined));
  return new Set(read.filter(choose));
}

function bytesOf(values: Iterable<Value>): number {
  return [...values].reduce((sum, v) => sum + byteLengthOf({ ...v, dtype: "float32" }), 0);
}
