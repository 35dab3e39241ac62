import { type Builder, byteLengthOf, type Value } from "../autodiff/mod.ts";
import { serialize } from "../compile/mod.ts";
import type { Engine, ModelSource, Session, SessionOptions } from "../runtime/mod.ts";

/** A graph and the values it is asked for. */
export interface WrittenGraph {
  readonly b: Builder;
  readonly outputs: Readonly<Record<string, Value>>;
  /**
   * Where most of the time goes, in few sessions: they keep the memory of a run for the next one, unless the cache's
   * options say otherwise, and are packed where that is wanted. Default false.
   */
  readonly isModel?: boolean;
}

/** What a session takes beside what it holds. */
const OVERHEAD_BYTES = 2 ** 20;

/** What packing may add to the weights that a graph reads, as bytes and as a share of theirs. */
const PACKING = { bytes: 0.5e9, share: 0.3 } as const;

interface Entry {
  readonly session: Promise<Session>;
  readonly bytes: number;
  readonly isPackable: boolean;
  readonly isPacked: boolean;
  users: number;
  uses: number;
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
  #packAfter: number;
  /** In the order of last use. */
  readonly #entries = new Map<string, Entry>();

  constructor(
    engine: Engine,
    { maxBytes, weightsRoot, packAfter = Infinity, ...options }: SessionOptions & {
      readonly maxBytes: number;
      readonly weightsRoot?: string | undefined;
      /**
       * Uses after which the matrices of a model's session are packed, of one session at a time. Only provider "cpu" does.
       * Default: never.
       */
      readonly packAfter?: number;
    },
  ) {
    this.#engine = engine;
    this.#options = options;
    this.#weightsRoot = weightsRoot;
    this.#maxBytes = maxBytes;
    this.#packAfter = packAfter;
  }

  /** Runs `action` with the session of this name, which is not freed meanwhile. */
  async use<T>(
    name: string,
    write: () => WrittenGraph,
    action: (session: Session) => Promise<T>,
  ): Promise<T> {
    const known = this.#entries.get(name);
    const entry = known === undefined || this.#isDue(known)
      ? this.#load(name, write(), known)
      : known;
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    entry.users++;
    entry.uses++;
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

  /** True where a session has been used enough to be replaced by a packed one. */
  #isDue({ isPackable, users, uses }: Entry): boolean {
    return isPackable && users === 0 && this.#mayPack(uses);
  }

  #mayPack(uses: number): boolean {
    return uses >= this.#packAfter && ![...this.#entries.values()].some(({ isPacked }) => isPacked);
  }

  /** Loads a session; `known` is the one of the same graph that it replaces. */
  #load(name: string, graph: WrittenGraph, known: Entry | undefined): Entry {
    const { b, outputs, isModel = false } = graph;
    const matrices = isModel ? matricesOf(b) : [];
    const packed = this.#mayPack(known?.uses ?? 0) ? thoseToPack(b, matrices) : [];
    const inPlace = new Set(matrices.filter((v) => !packed.includes(v)).map((v) => v.name));
    const model: ModelSource = {
      name,
      bytes: serialize(b, outputs, packed.length > 0 ? { inPlace } : {}),
      ...(this.#weightsRoot === undefined ? {} : { weightsRoot: this.#weightsRoot }),
    };
    const converted = convertedBytes(b);
    const { keepMemory = isModel, graphOptimizationLevel } = this.#options;
    const options: SessionOptions = {
      ...this.#options,
      keepMemory,
      // Conversions are to be done once.
      ...(converted > 0 && graphOptimizationLevel === "disabled" && {
        graphOptimizationLevel: "basic",
      }),
      ...(packed.length > 0 && { prepackWeights: true }),
    };
    const session = known === undefined
      ? this.#engine.load(model, options)
      : free(known).then(() => this.#engine.load(model, options));
    const kept = keepMemory ? computedBytes(b) : 0;
    const entry: Entry = {
      session,
      // A matrix is packed once for each direction.
      bytes: constantBytes(b) + converted + kept + 2 * bytesOf(packed) + OVERHEAD_BYTES,
      isPackable: packed.length === 0 && matrices.length > 0,
      isPacked: packed.length > 0,
      users: 0,
      uses: 0,
    };
    session.catch(() => {
      if (this.#entries.get(name) === entry) this.#entries.delete(name);
      if (entry.isPacked) this.#packAfter = Infinity;
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

/** The matrices in float32 that products read. */
function matricesOf(b: Builder): readonly Value[] {
  const products = b.nodes.filter(({ op }) => op === "Gemm" || op === "MatMul");
  const factors = products.flatMap(({ inputs: [, v] }) => v === undefined ? [] : [v]);
  return [...new Set(factors)].filter(({ source, dtype, shape }) =>
    source.kind === "weight" && dtype === "float32" && shape.length === 2
  );
}

/** As many matrices as may be packed: two copies of each, and the mapped one is not read again. */
function thoseToPack(b: Builder, matrices: readonly Value[]): readonly Value[] {
  const weights = bytesOf(readBy(b, ({ source }) => source.kind === "weight"));
  let left = PACKING.bytes + PACKING.share * weights;
  return matrices.filter((v) => {
    const fits = byteLengthOf(v) <= left;
    if (fits) left -= byteLengthOf(v);
    return fits;
  });
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
