import type { Engine, ModelSource, Session, SessionOptions } from "./session.ts";

/** A model to load, and what its session holds. */
export interface CachedModel extends ModelSource {
  readonly options: SessionOptions;
  /** Bytes that its session holds until it is disposed of. */
  readonly heldBytes: number;
}

/** Bounds of a `SessionCache`. */
export interface SessionCacheOptions {
  /** Bytes that all sessions may hold. Default: no bound. */
  readonly maxBytes?: number | undefined;
  /** Most sessions. Default: no bound. */
  readonly maxSessions?: number | undefined;
  /**
   * What happens where sessions in use leave no room for another: "waits" until they are free, as where memory is bounded,
   * or "exceeds" the bound for as long. Default "exceeds".
   */
  readonly whenFull?: "waits" | "exceeds";
}

interface Entry {
  readonly session: Promise<Session>;
  bytes: number;
  isLoaded: boolean;
  users: number;
  /** Called when nobody uses it any more. */
  readonly whenIdle: (() => void)[];
}

/**
 * Sessions by name, loaded when first used. Callers that come together share one load; where it fails, it fails for them
 * alone and is tried again for the next. Beyond the bounds, sessions are freed before another is loaded, those unused for
 * longest first and none that is in use.
 */
export class SessionCache {
  readonly #engine: Engine;
  readonly #maxBytes: number;
  readonly #maxSessions: number;
  readonly #waits: boolean;
  /** In the order of last use. */
  readonly #entries = new Map<string, Entry>();

  constructor(
    engine: Engine,
    { maxBytes = Infinity, maxSessions = Infinity, whenFull = "exceeds" }: SessionCacheOptions = {},
  ) {
    this.#engine = engine;
    this.#maxBytes = maxBytes;
    this.#maxSessions = maxSessions;
    this.#waits = whenFull === "waits";
  }

  /** Whether a session of that name is loaded, or on its way. */
  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** Whether somebody uses the session of that name now. */
  isUsed(name: string): boolean {
    return (this.#entries.get(name)?.users ?? 0) > 0;
  }

  /** Runs `action` with the session of that name, of the model that `write` gives if it is not loaded; it is not freed meanwhile. */
  async use<T>(
    name: string,
    write: () => CachedModel | Promise<CachedModel>,
    action: (session: Session) => Promise<T>,
  ): Promise<T> {
    const entry = this.#entries.get(name) ?? this.#load(name, write);
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    entry.users++;
    try {
      const session = await entry.session;
      // While this session loaded, sessions in use could not be freed: together they may hold more than there is room for.
      await this.#freeUntil(() => this.#fits(0), false);
      return await action(session);
    } finally {
      if (--entry.users === 0) entry.whenIdle.splice(0).forEach((tell) => tell());
    }
  }

  /** Frees what leaves no room for `bytes` beside it. */
  async makeRoom(bytes: number): Promise<void> {
    await this.#freeUntil(() => this.#fits(bytes), this.#waits);
  }

  /** Frees the session of that name, once nobody uses it. The next use loads it again. */
  async drop(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    await free(entry);
  }

  /** Frees all sessions. Runs already called finish first. */
  async dispose(): Promise<void> {
    const all = [...this.#entries.values()];
    this.#entries.clear();
    await Promise.all(all.map(async ({ session }) => {
      await (await session.catch(() => undefined))?.dispose();
    }));
  }

  #load(name: string, write: () => CachedModel | Promise<CachedModel>): Entry {
    const { promise, resolve, reject } = Promise.withResolvers<Session>();
    const entry: Entry = { session: promise, bytes: 0, isLoaded: false, users: 0, whenIdle: [] };
    const forget = () => {
      if (this.#entries.get(name) === entry) this.#entries.delete(name);
    };
    this.#open(entry, write).then(
      (session) => {
        entry.isLoaded = true;
        resolve(session);
      },
      (error) => {
        forget();
        reject(error);
      },
    );
    return entry;
  }

  async #open(entry: Entry, write: () => CachedModel | Promise<CachedModel>): Promise<Session> {
    // The caller is counted as its user before anything is freed.
    await Promise.resolve();
    const { options, heldBytes, ...model } = await write();
    entry.bytes = heldBytes;
    await this.#freeUntil(() => this.#fits(0), this.#waits);
    return await this.#engine.load(model, options);
  }

  #fits(bytes: number): boolean {
    const held = [...this.#entries.values()].reduce((sum, entry) => sum + entry.bytes, 0);
    return held + bytes <= this.#maxBytes && this.#entries.size <= this.#maxSessions;
  }

  /** Frees sessions, the one unused for longest first; then, if it is to wait, those in use, once they are idle. */
  async #freeUntil(isEnough: () => boolean, waits: boolean): Promise<void> {
    for (const mayWait of waits ? [false, true] : [false]) {
      for (const [name, entry] of this.#entries) {
        if (isEnough()) return;
        // A session that is loading may itself wait for room.
        if (mayWait ? !entry.isLoaded : entry.users > 0) continue;
        this.#entries.delete(name);
        await free(entry);
      }
    }
  }
}

/** Disposes of a session once nobody uses it. One that could not be loaded has told those who asked for it. */
async function free(entry: Entry): Promise<void> {
  if (entry.users > 0) await new Promise<void>((tell) => entry.whenIdle.push(tell));
  const session = await entry.session.catch(() => undefined);
  await session?.dispose();
}
