import { type Builder, byteLengthOf, serialize, type Value } from "../autodiff/mod.ts";
import type { Engine, ModelSource, Session, SessionOptions } from "../runtime/mod.ts";

/** A graph and the values it is asked for. */
export interface WrittenGraph {
  readonly b: Builder;
  readonly outputs: Readonly<Record<string, Value>>;
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

  #load(name: string, { b, outputs }: WrittenGraph): Entry {
    const model: ModelSource = {
      name,
      bytes: serialize(b, outputs),
      ...(this.#weightsRoot === undefined ? {} : { weightsRoot: this.#weightsRoot }),
    };
    const session = this.#engine.load(model, this.#options);
    const entry = { session, bytes: ownBytes(b) + OVERHEAD_BYTES, users: 0 };
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
 * Bytes that a session has of its own: constants, and weights that it converts to float32. Weights in float32 stay in
 * their file, where all sessions share them.
 */
function ownBytes(b: Builder): number {
  const own = new Set<Value>();
  for (const { inputs } of b.nodes) {
    for (const v of inputs) {
      const isConverted = v?.source.kind === "weight" && v.dtype !== "float32";
      if (v !== undefined && (isConverted || v.source.kind === "constant")) own.add(v);
    }
  }
  return [...own].reduce((sum, v) => sum + byteLengthOf({ ...v, dtype: "float32" }), 0);
}
