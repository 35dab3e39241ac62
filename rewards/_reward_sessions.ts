import { type Builder, byteLengthOf, type Value } from "../autodiff/mod.ts";
import { compile, type CompileOptions } from "../compile/mod.ts";
import {
  type CachedModel,
  type Engine,
  type Session,
  SessionCache,
  type SessionOptions,
} from "../runtime/mod.ts";

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

/** What is known of a loaded session. */
interface Packing {
  readonly isPackable: boolean;
  readonly isPacked: boolean;
  uses: number;
}

/** How graphs of a reward are compiled, loaded and kept. */
export interface RewardSessionsOptions {
  /** What graphs are compiled for. */
  readonly compile: CompileOptions;
  readonly session: SessionOptions;
  readonly maxBytes: number;
  readonly weightsRoot?: string | undefined;
  /**
   * Uses after which the matrices of a model's session are packed, of one session at a time. Only provider "cpu" does.
   * Default: never.
   */
  readonly packAfter?: number | undefined;
}

/**
 * A reward's graphs in a `SessionCache`, compiled when first used. The matrices of the model that is used most are packed:
 * its session is replaced by another one.
 */
export class RewardSessions {
  readonly #cache: SessionCache;
  readonly #options: RewardSessionsOptions;
  readonly #packings = new Map<string, Packing>();
  #packAfter: number;

  constructor(engine: Engine, options: RewardSessionsOptions) {
    this.#cache = new SessionCache(engine, { maxBytes: options.maxBytes });
    this.#options = options;
    this.#packAfter = options.packAfter ?? Infinity;
  }

  /** Runs `action` with the session of this name, which is not freed meanwhile. */
  async use<T>(
    name: string,
    write: () => WrittenGraph,
    action: (session: Session) => Promise<T>,
  ): Promise<T> {
    const known = this.#cache.has(name) ? this.#packings.get(name) : undefined;
    const isDue = known?.isPackable === true && !this.#cache.isUsed(name) &&
      this.#mayPack(known.uses);
    const dropped = isDue ? this.#cache.drop(name) : undefined;
    const model = async () => {
      await dropped;
      return this.#model(name, { graph: write(), uses: known?.uses ?? 0 });
    };
    try {
      return await this.#cache.use(name, model, (session) => {
        const packing = this.#packings.get(name);
        if (packing !== undefined) packing.uses++;
        return action(session);
      });
    } catch (error) {
      // Packing may have taken more memory than there is.
      if (!this.#cache.has(name) && this.#packings.get(name)?.isPacked) this.#packAfter = Infinity;
      throw error;
    }
  }

  /** Frees all sessions. */
  async dispose(): Promise<void> {
    await this.#cache.dispose();
  }

  #mayPack(uses: number): boolean {
    const isPacked = [...this.#packings].some(([name, packing]) =>
      packing.isPacked && this.#cache.has(name)
    );
    return uses >= this.#packAfter && !isPacked;
  }

  /** A graph to load; `uses` are those of the session that it replaces. */
  #model(
    name: string,
    { graph, uses }: { readonly graph: WrittenGraph; readonly uses: number },
  ): CachedModel {
    const { b, outputs, isModel = false } = graph;
    const matrices = isModel ? matricesOf(b) : [];
    const packed = this.#mayPack(uses) ? thoseToPack(b, matrices) : [];
    const inPlace = new Set(matrices.filter((v) => !packed.includes(v)).map((v) => v.name));
    const { compile: target, session, weightsRoot } = this.#options;
    const compiled = compile(b, outputs, { ...target, ...(packed.length > 0 && { inPlace }) });
    const converted = convertedBytes(b);
    const { keepMemory = isModel, graphOptimizationLevel } = session;
    const kept = keepMemory ? computedBytes(b) : 0;
    this.#packings.set(name, {
      isPackable: packed.length === 0 && matrices.length > 0,
      isPacked: packed.length > 0,
      uses: 0,
    });
    return {
      name,
      bytes: compiled.bytes,
      ...(weightsRoot !== undefined && { weightsRoot }),
      options: {
        ...compiled.sessionOptions,
        ...session,
        keepMemory,
        // Conversions are to be done once.
        ...(converted > 0 && graphOptimizationLevel === "disabled" && {
          graphOptimizationLevel: "basic",
        }),
        ...(packed.length > 0 && { prepackWeights: true }),
      },
      // A matrix is packed once for each direction.
      heldBytes: constantBytes(b) + converted + kept + 2 * bytesOf(packed) + OVERHEAD_BYTES,
    };
  }
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
