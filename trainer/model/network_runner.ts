import type { Tensor } from "../../autodiff/mod.ts";
import type { ModelGraph } from "../../models/diffusers/mod.ts";
import {
  type Engine,
  type Feed,
  type Session,
  SessionCache,
  type SessionOptions,
  type Tensors,
} from "../../runtime/mod.ts";
import { ENGINE_BYTES, footprint, piecesFootprint } from "./memory.ts";
import type { RunnableNetwork } from "./runnable_network.ts";
import { byTensor } from "./_by_tensor.ts";
import { PiecewiseRunner } from "./_piecewise.ts";
import { sessionOptions } from "./_session_options.ts";

/** Options of a `NetworkRunner`. */
export interface NetworkRunnerOptions {
  readonly session?: SessionOptions;
  /** Bytes that the engine's process should stay within. Default: no bound. */
  readonly memory?: number | undefined;
  /** Sessions kept loaded. Default 16. */
  readonly sessions?: number | undefined;
}

/** Runs networks in an engine. What is loaded stays loaded until others need its room. */
export class NetworkRunner {
  readonly #sessions: SessionCache;
  readonly #options: SessionOptions;
  readonly #piecewise: PiecewiseRunner;

  constructor(
    engine: Engine,
    { session = {}, memory = Infinity, sessions = 16 }: NetworkRunnerOptions = {},
  ) {
    this.#sessions = new SessionCache(engine, {
      maxSessions: sessions,
      maxBytes: memory - ENGINE_BYTES,
      whenFull: "waits",
    });
    this.#options = session;
    this.#piecewise = new PiecewiseRunner(engine, session);
  }

  /** Runs `action` with the session of that name, of the graph that `build` makes if it is not loaded. */
  async use<T>(
    name: string,
    build: () => ModelGraph,
    action: (session: Session) => Promise<T>,
  ): Promise<T> {
    const write = () => {
      const graph = build();
      return {
        name: graph.name,
        bytes: graph.bytes,
        weightsRoot: graph.weightsRoot,
        options: sessionOptions(graph, this.#options),
        heldBytes: footprint(graph.cost),
      };
    };
    return await this.#sessions.use(name, write, action);
  }

  /** A network's result. */
  async forward(
    network: RunnableNetwork,
    feeds: Readonly<Record<string, Feed>>,
  ): Promise<Tensor | undefined> {
    if (network.kind === "pieces") {
      await this.#sessions.makeRoom(piecesFootprint(network.pieces));
      return await this.#piecewise.forward(network.pieces, feeds);
    }
    return await this.use(network.name, () => network.graph, async (session) => {
      const [output = ""] = session.outputNames;
      return (await session.run(readBy(network.graph, feeds), [output]))[output];
    });
  }

  /** The gradient of each input and LoRA tensor that the network's graph, or its pieces, differentiate against. */
  async vjp(
    network: RunnableNetwork,
    { feeds, cotangent }: {
      readonly feeds: Readonly<Record<string, Feed>>;
      /** d loss / d result. */
      readonly cotangent: Tensor;
    },
  ): Promise<Tensors> {
    if (network.kind === "pieces") {
      await this.#sessions.makeRoom(piecesFootprint(network.pieces));
      return await this.#piecewise.vjp(network.pieces, { feeds, cotangent });
    }
    const { graph } = network;
    const outputs = graph.gradients ?? new Map<string, string>();
    return await this.use(network.name, () => graph, async (session) => {
      const found = await session.run(readBy(graph, { ...feeds, cotangent }), [
        ...outputs.values(),
      ]);
      return byTensor(outputs, found);
    });
  }

  /** Frees everything loaded. */
  async dispose(): Promise<void> {
    await this.#sessions.dispose();
  }
}

/** Those of `feeds` that a graph reads: adapters of layers that a result does not depend on are none of it. */
function readBy(
  { inputs }: ModelGraph,
  feeds: Readonly<Record<string, Feed>>,
): Readonly<Record<string, Feed>> {
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => Object.hasOwn(inputs, name)));
}
