import { type Builder, byteLengthOf, serialize, type Value } from "../autodiff/mod.ts";
import type { Engine, ModelSource, Session, SessionOptions } from "../runtime/mod.ts";

/** A graph and the values it is asked for. */
export interface WrittenGraph {
  readonly b: Builder;
  readonly outputs: Readonly<Record<string, Value>>;
}

/** What a session takes beside its weights and constants. */
const OVERHEAD_BYTES = 2 ** 20;

interface Entry {
  readonly session: Promise<Session>;
  readonly bytes: number;
  users: number;
}

/**
 * Sessions by name, made when first used. Beyond `maxBytes` of weights and constants those not in use are freed, the
 * longest unused first.
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
    const entry = { session, bytes: storedBytes(b) + OVERHEAD_BYTES, users: 0 };
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

/** Bytes of the weights and constants that nodes of a graph read, in the dtype they are stored in. */
function storedBytes(b: Builder): number {
  const stored = new Set<Value>();
  for (const { inputs } of b.nodes) {
    for (const v of inputs) {
      if (v?.source.kind === "weight" || v?.source.kind === "constant") stored.add(v);
    }
  }
  return [...stored].reduce((sum, v) => sum + byteLengthOf(v), 0);
}
