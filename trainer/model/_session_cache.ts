import type { Engine, ModelSource, Session, SessionOptions } from "../../runtime/mod.ts";

/** Sessions by name, loaded when first asked for; of too many, the one unused for longest is freed. */
export class SessionCache {
  readonly #engine: Engine;
  readonly #options: SessionOptions;
  readonly #limit: number;
  readonly #sessions = new Map<string, Promise<Session>>();

  constructor(
    engine: Engine,
    { session, limit }: { readonly session: SessionOptions; readonly limit: number },
  ) {
    this.#engine = engine;
    this.#options = session;
    this.#limit = limit;
  }

  /** The session of that name, from the graph that `build` makes if it is not loaded. */
  async get(name: string, build: () => ModelSource): Promise<Session> {
    const found = this.#sessions.get(name) ?? this.#load(build);
    this.#sessions.delete(name);
    this.#sessions.set(name, found);
    found.catch(() => this.#sessions.delete(name));
    for (const [oldest, session] of this.#sessions) {
      if (this.#sessions.size <= this.#limit) break;
      this.#sessions.delete(oldest);
      // Runs already called finish first.
      await (await session).dispose();
    }
    return await found;
  }

  async dispose(): Promise<void> {
    const all = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of all) await session.then((s) => s.dispose(), () => {});
  }

  async #load(build: () => ModelSource): Promise<Session> {
    return await this.#engine.load(build(), this.#options);
  }
}
