import { createHash } from "node:crypto";
import type { Tensor } from "../../autodiff/mod.ts";
import type { Target } from "../../compile/mod.ts";
import { clipGraph, type TextEncoder } from "../../models/flow/mod.ts";
import type { Engine } from "../../runtime/mod.ts";
import type { Parameters } from "../tensors.ts";
import { asFloat32 } from "./_as_float32.ts";
import { EmbeddingCache } from "./_embedding_cache.ts";
import { hashTensors } from "./_hash_tensors.ts";
import { NetworkRunner, type NetworkRunnerOptions } from "./network_runner.ts";
import { encoderNetwork, type RunnableNetwork } from "./runnable_network.ts";

/** Where text encoders run. */
export interface TextNetworksOptions {
  /** The one that runs them beside a model's other networks. */
  readonly runner: NetworkRunner;
  /** Opens an engine of their own, which lives while prompts are encoded. Default: they run in `runner`. */
  readonly openEngine?: (() => Promise<Engine>) | undefined;
  /** How that engine's networks run. */
  readonly own: NetworkRunnerOptions;
  readonly target: Target;
  /** Folder where what they make is kept. Default: it is kept in memory. */
  readonly cacheDir?: string | undefined;
}

type TextInputs = Readonly<Record<string, Tensor>>;

/** An encoder for prompts of so many tokens. */
type Network =
  & { readonly key: string }
  & ({ readonly kind: "clip"; readonly build: () => ReturnType<typeof clipGraph> } | {
    readonly kind: "states";
    readonly runnable: RunnableNetwork;
  });

/**
 * The text encoders of a flow pipeline. What one makes of some tokens depends on these, its weights and its graph; it
 * is computed once and kept under a digest of all three. Where it is kept in memory alone, the weights are not read for
 * that: the network's name stands for them and the graph.
 */
export class TextNetworks {
  readonly #options: TextNetworksOptions;
  readonly #cache: EmbeddingCache;
  readonly #networks = new Map<string, Promise<Network>>();
  #working = 0;
  #own: Promise<{ readonly engine: Engine; readonly runner: NetworkRunner }> | undefined;

  constructor(options: TextNetworksOptions) {
    this.#options = options;
    this.#cache = new EmbeddingCache({ folder: options.cacheDir });
  }

  /** Within `during`: a CLIP's `states` [1, tokens, width] and `pooled` [1, width], or another encoder's `states`. */
  async encode(
    encoder: TextEncoder,
    { feeds, tokens, layers }: {
      readonly feeds: TextInputs;
      readonly tokens: number;
      /** Of Qwen, which are its states side by side. */
      readonly layers: readonly number[];
    },
  ): Promise<Parameters> {
    const network = await this.#network(encoder, { tokens, layers });
    const key = hashTensors(createHash("sha256").update(network.key), feeds).digest("hex");
    const known = await this.#cache.get(key);
    if (known !== undefined) return known;
    const made = await this.#run(await this.#runner(), { network, feeds });
    await this.#cache.put(key, made);
    return made;
  }

  /**
   * Does what may encode. When no such work is left, the encoders' own engine is ended, which frees all they hold; the
   * next prompt that is not kept opens another.
   */
  async during<T>(action: () => Promise<T>): Promise<T> {
    this.#working++;
    try {
      return await action();
    } finally {
      if (--this.#working === 0) await this.#rest();
    }
  }

  async #rest(): Promise<void> {
    const own = this.#own;
    this.#own = undefined;
    // One that never opened has failed the call that needed it.
    await own?.then(({ engine }) => engine.close(), () => {});
  }

  async #runner(): Promise<NetworkRunner> {
    const { runner, openEngine, own } = this.#options;
    if (openEngine === undefined) return runner;
    this.#own ??= openEngine().then((engine) => ({
      engine,
      runner: new NetworkRunner(engine, own),
    }));
    try {
      return (await this.#own).runner;
    } catch (error) {
      this.#own = undefined;
      throw error;
    }
  }

  async #run(
    runner: NetworkRunner,
    { network, feeds }: { readonly network: Network; readonly feeds: TextInputs },
  ): Promise<Parameters> {
    if (network.kind === "states") {
      return { states: asFloat32("states", await runner.forward(network.runnable, feeds)) };
    }
    const out = await runner.use(network.key, network.build, (session) => session.run(feeds));
    return { states: asFloat32("states", out.states), pooled: asFloat32("pooled", out.pooled) };
  }

  #network(
    encoder: TextEncoder,
    { tokens, layers }: { readonly tokens: number; readonly layers: readonly number[] },
  ): Promise<Network> {
    const { weights } = encoder.part;
    const name = `${encoder.kind} ${weights.path} ${tokens} ${layers}`;
    const known = this.#networks.get(name);
    if (known !== undefined) return known;
    const make = async (): Promise<Network> => {
      const { target, cacheDir } = this.#options;
      const keyOf = async (graphs: readonly { readonly bytes: Uint8Array }[]) => {
        if (cacheDir === undefined) return name;
        const hash = createHash("sha256").update(`${await weights.digest()}\n`);
        for (const { bytes } of graphs) hash.update(bytes);
        return hash.digest("hex");
      };
      if (encoder.kind === "clip") {
        const graph = clipGraph(encoder, { tokens, target });
        return { kind: "clip", build: () => graph, key: await keyOf([graph]) };
      }
      const runnable = encoderNetwork(encoder, { tokens, layers, ...target });
      const graphs = runnable.kind === "whole"
        ? [runnable.graph]
        : runnable.pieces.pieces.map(({ forward }) => forward);
      return { kind: "states", runnable, key: await keyOf(graphs) };
    };
    const made = make();
    this.#networks.set(name, made);
    made.catch(() => this.#networks.delete(name));
    return made;
  }
}
