import type { Tensor } from "../../autodiff/mod.ts";
import type { ModelGraph, PieceGraphs, Pieces } from "../../models/diffusers/mod.ts";
import type { Engine, Feed, SessionOptions, Tensors } from "../../runtime/mod.ts";
import { sessionOptions } from "./_session_options.ts";

let calls = 0;

/**
 * Runs networks in pieces, one loaded at a time: memory is that of the largest piece and of the values that pass from
 * piece to piece, which stay in the engine. Weights stay mapped from their files, so that loading is quick.
 */
export class PiecewiseRunner {
  readonly #engine: Engine;
  readonly #options: SessionOptions;

  constructor(engine: Engine, session: SessionOptions) {
    this.#engine = engine;
    this.#options = { ...session, prepackWeights: false };
  }

  /** The network's result. `feeds` are its inputs, LoRA tensors among them. */
  async forward(
    { pieces, result }: Pieces,
    feeds: Readonly<Record<string, Feed>>,
  ): Promise<Tensor | undefined> {
    const values = new KeptValues(this.#engine);
    try {
      let out: Tensors = {};
      for (const [i, { forward, makes }] of pieces.entries()) {
        const isLast = i === pieces.length - 1;
        out = await this.#run(forward, {
          feeds: values.feed(feeds, forward),
          ...(isLast ? { fetches: [result] } : { fetches: [], keep: values.keep(makes) }),
        });
        await values.forget(readLast(pieces, i));
      }
      return out[result];
    } finally {
      await values.forgetAll();
    }
  }

  /**
   * The network's vector-Jacobian product with `cotangent`, d loss / d result: `grad.<name>` for every LoRA tensor and
   * every input whose gradient the pieces give. A forward pass keeps what passes between pieces, then each piece, the
   * last first, is computed again with its gradient.
   */
  async vjp(
    { pieces, result }: Pieces,
    { feeds, cotangent }: {
      readonly feeds: Readonly<Record<string, Feed>>;
      readonly cotangent: Tensor;
    },
  ): Promise<Tensors> {
    const values = new KeptValues(this.#engine);
    const all: Tensors = {};
    try {
      for (const { forward, makes } of pieces.slice(0, -1)) {
        await this.#run(forward, {
          feeds: values.feed(feeds, forward),
          fetches: [],
          keep: values.keep(makes),
        });
      }
      for (const [i, { makes, gradient }] of [...pieces.entries()].reverse()) {
        await values.forget(makes);
        if (gradient !== undefined) {
          const { graph, gives } = gradient;
          const given = { ...feeds, [`cotangent.${result}`]: cotangent };
          const earlier = new Set(pieces.slice(0, i).flatMap((p) => [...p.makes, ...givesOf(p)]));
          const passed = gives.filter((v) => earlier.has(v));
          const kept = new Set(passed.map((v) => `grad.${v}`));
          const found = await this.#run(graph, {
            feeds: values.feed(given, graph),
            fetches: Object.keys(graph.outputs).filter((output) => !kept.has(output)),
            keep: values.keepGradients(passed),
          });
          Object.assign(all, found);
        }
        await values.forget(makes.map((v) => `cotangent.${v}`));
      }
      return all;
    } finally {
      await values.forgetAll();
    }
  }

  async #run(
    graph: ModelGraph,
    { feeds, fetches, keep }: {
      readonly feeds: Readonly<Record<string, Feed>>;
      readonly fetches: readonly string[];
      readonly keep?: Readonly<Record<string, string>>;
    },
  ): Promise<Tensors> {
    const session = await this.#engine.load(graph, sessionOptions(graph, this.#options));
    try {
      return await session.run(feeds, fetches, { keep });
    } finally {
      await session.dispose();
    }
  }
}

/** Values of one call that the engine keeps, by the names of the graphs' inputs they feed. */
class KeptValues {
  readonly #engine: Engine;
  readonly #prefix = `piece.${calls++}.`;
  readonly #names = new Set<string>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** What a graph reads: kept values, and the others from `feeds`. */
  feed(
    feeds: Readonly<Record<string, Feed>>,
    { inputs }: ModelGraph,
  ): Readonly<Record<string, Feed>> {
    return Object.fromEntries(
      Object.keys(inputs).flatMap((input): [string, Feed][] => {
        // Until a value's gradient is complete it is what later pieces found.
        const name = input.replace(/^sum\./, "cotangent.");
        if (this.#names.has(name)) return [[input, { kept: this.#prefix + name }]];
        const given = feeds[input];
        return given === undefined ? [] : [[input, given]];
      }),
    );
  }

  keep(values: readonly string[]): Readonly<Record<string, string>> {
    return Object.fromEntries(values.map((v) => [v, this.#kept(v)]));
  }

  keepGradients(values: readonly string[]): Readonly<Record<string, string>> {
    return Object.fromEntries(values.map((v) => [`grad.${v}`, this.#kept(`cotangent.${v}`)]));
  }

  async forget(names: readonly string[]): Promise<void> {
    const known = names.filter((name) => this.#names.delete(name));
    if (known.length > 0) await this.#engine.forget(...known.map((name) => this.#prefix + name));
  }

  /** Frees the rest, which an engine that has ended did already. */
  async forgetAll(): Promise<void> {
    await this.forget([...this.#names]).catch(() => {});
  }

  #kept(name: string): string {
    this.#names.add(name);
    return this.#prefix + name;
  }
}

function givesOf({ gradient }: PieceGraphs): readonly string[] {
  return gradient?.gives ?? [];
}

/** Values that piece `i` reads and no later one does. */
function readLast(pieces: readonly PieceGraphs[], i: number): readonly string[] {
  const later = new Set(pieces.slice(i + 1).flatMap(({ reads }) => reads));
  return (pieces[i]?.reads ?? []).filter((v) => !later.has(v));
}
