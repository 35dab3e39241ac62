import type { ModelGraph } from "../../models/diffusers/mod.ts";
import type { Engine, Session, SessionOptions } from "../../runtime/mod.ts";
import { footprint } from "./memory.ts";
import { sessionOptions } from "./_session_options.ts";

interface Loaded {
  readonly session: Promise<Session>;
  /** Bytes it holds after it ran. */
  readonly bytes: number;
}

/**
 * Sessions by name, loaded when first asked for. Of too many, or where they take more memory than there is, those unused
 * for longest are freed first.
 */
export class SessionCache {
  readonly #engine: Engine;
  readonly #options: SessionOptions;
  readonly #limit: number;
  readonly #memory: number;
  readonly #sessions = new Map<string, Loaded>();

  constructor(
    engine: Engine,
    { session, limit, memory = Infinity }: {
      readonly session: SessionOptions;
      /** Sessions. */
      readonly limit: number;
      /** Bytes of all sessions. */
      readonly memory?: number;
    },
  ) {
    this.#engine = engine;
    this.#options = session;
    this.#limit = limit;
    this.#memory = memory;
  }

  /** The session of that name, from the graph that `build` makes if it is not loaded. */
  async get(name: string, build: () => ModelGraph): Promise<Session> {
    const found = this.#sessions.get(name) ?? await this.#load(build());
    this.#sessions.delete(name);
    this.#sessions.set(name, found);
    found.session.catch(() => this.#sessions.delete(name));
    await this.#freeUntil(() => this.#sessions.size <= this.#limit);
    return await found.session;
  }

  /** Frees what leaves no room for `bytes` beside it. */
  async makeRoom(bytes: number): Promise<void> {
    await this.#freeUntil(() => this.#held() + bytes <= this.#memory);
  }

  async dispose(): Promise<void> {
    const all = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const { session } of all) await session.then((s) => s.dispose(), () => {});
  }

  async #load(graph: ModelGraph): Promise<Loaded> {
    const bytes = footprint(graph.cost);
    await this.makeRoom(bytes);
    return { session: this.#engine.load(graph, sessionOptions(graph, this.#options)), bytes };
  }

  #held(): number {
    return [...this.#sessions.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Frees sessions, the one unused for longest first. */
  async #freeUntil(isEnough: () => boolean): Promise<void> {
    for (const [oldest, { session }] of this.#sessions) {
      if (isEnough()) return;
      this.#sessions.delete(oldest);
      // Runs already called finish first.
      await (await session).dispose();
    }
  }
}
