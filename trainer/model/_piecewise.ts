import type { Tensor } from "../../autodiff/mod.ts";
import type { ModelGraph, PieceGraphs, Pieces } from "../../models/diffusers/mod.ts";
import type { Engine, Feed, Place, SessionOptions, Tensors } from "../../runtime/mod.ts";
import { byTensor } from "./_by_tensor.ts";
import { sessionOptions } from "./_session_options.ts";

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
          feeds: { ...feeds, ...values.all() },
          ...(isLast ? { fetches: [result] } : { fetches: [], keep: values.places(makes) }),
        });
        await values.forget(readLast(pieces, i));
      }
      return out[result];
    } finally {
      await values.forgetAll();
    }
  }

  /**
   * The network's vector-Jacobian product with `cotangent`, d loss / d result: the gradient of every LoRA tensor and of
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
    /** d loss / d value for what passes between pieces: until every later piece has added to it, a part of the sum. */
    const cotangents = new KeptValues(this.#engine);
    const all: Tensors = {};
    try {
      for (const { forward, makes } of pieces.slice(0, -1)) {
        await this.#run(forward, {
          feeds: { ...feeds, ...values.all() },
          fetches: [],
          keep: values.places(makes),
        });
      }
      for (const [i, { makes, gradient }] of [...pieces.entries()].reverse()) {
        await values.forget(makes);
        if (gradient !== undefined) {
          const { graph, takes, adds, gives, changes } = gradient;
          const arriving = { ...cotangents.all(), [result]: cotangent };
          const earlier = new Set(pieces.slice(0, i).flatMap((p) => [...p.makes, ...givesOf(p)]));
          const [passed, final] = divide(gives, (v) => earlier.has(v));
          const wanted = new Map([...final, ...changes]);
          const found = await this.#run(graph, {
            feeds: {
              ...feeds,
              ...values.all(),
              ...renamed(arriving, takes),
              ...renamed(arriving, adds),
            },
            fetches: [...wanted.values()],
            keep: renamed(cotangents.places([...passed.keys()]), passed),
          });
          Object.assign(all, byTensor(wanted, found));
        }
        await cotangents.forget(makes);
      }
      return all;
    } finally {
      await values.forgetAll();
      await cotangents.forgetAll();
    }
  }

  /** Runs a graph with those of `feeds` that it reads. */
  async #run(
    graph: ModelGraph,
    { feeds, fetches, keep }: {
      readonly feeds: Readonly<Record<string, Feed>>;
      readonly fetches: readonly string[];
      readonly keep?: Readonly<Record<string, Place>>;
    },
  ): Promise<Tensors> {
    const session = await this.#engine.load(graph, sessionOptions(graph, this.#options));
    try {
      const read = Object.entries(feeds).filter(([name]) => Object.hasOwn(graph.inputs, name));
      return await session.run(Object.fromEntries(read), fetches, { keep });
    } finally {
      await session.dispose();
    }
  }
}

/** Values of one call that the engine keeps, by name. */
class KeptValues {
  readonly #engine: Engine;
  readonly #places = new Map<string, Place>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  all(): Readonly<Record<string, Place>> {
    return Object.fromEntries(this.#places);
  }

  /** Where values are kept, or will be by the run they are given to. */
  places(names: readonly string[]): Readonly<Record<string, Place>> {
    return Object.fromEntries(names.map((name) => {
      const place = this.#places.get(name) ?? this.#engine.place(name);
      this.#places.set(name, place);
      return [name, place];
    }));
  }

  async forget(names: readonly string[]): Promise<void> {
    const places = names.flatMap((name) => this.#places.get(name) ?? []);
    for (const name of names) this.#places.delete(name);
    if (places.length > 0) await this.#engine.forget(...places);
  }

  /** Frees the rest, which an engine that has ended did already. */
  async forgetAll(): Promise<void> {
    await this.forget([...this.#places.keys()]).catch(() => {});
  }
}

function givesOf({ gradient }: PieceGraphs): readonly string[] {
  return [...gradient?.gives.keys() ?? []];
}

/** What goes by a value's name, under the name that a graph has for it; what is not there is left out. */
function renamed<T>(
  named: Readonly<Record<string, T>>,
  names: ReadonlyMap<string, string>,
): Record<string, T> {
  return Object.fromEntries(
    [...names].flatMap(([value, name]): [string, T][] => {
      const found = named[value];
      return found === undefined ? [] : [[name, found]];
    }),
  );
}

function divide(
  map: ReadonlyMap<string, string>,
  isFirst: (key: string) => boolean,
): readonly [ReadonlyMap<string, string>, ReadonlyMap<string, string>] {
  const entries = [...map];
  return [
    new Map(entries.filter(([key]) => isFirst(key))),
    new Map(entries.filter(([key]) => !isFirst(key))),
  ];
}

/** Values that piece `i` reads and no later one does. */
function readLast(pieces: readonly PieceGraphs[], i: number): readonly string[] {
  const later = new Set(pieces.slice(i + 1).flatMap(({ reads }) => reads));
  return (pieces[i]?.reads ?? []).filter((v) => !later.has(v));
}
