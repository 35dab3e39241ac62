import { raceAbort } from "../../base/mod.ts";
import { type ConnectedTerm, type RewardClient, RewardUnavailableError } from "./reward_mixture.ts";
import type { RewardTerm } from "./run_config.ts";

/** Longest time that a connection takes, in milliseconds. */
const CONNECT_MS = 30_000;

interface Connection {
  readonly client: Promise<RewardClient>;
  /** Whether it is made. */
  isMade: boolean;
  /** Ends the making. */
  readonly abort: AbortController;
}

/** The rewards that a run is connected to, one connection for all terms of one server, reward and digest. */
export class RewardClients {
  readonly #connect: (term: RewardTerm, signal: AbortSignal) => Promise<RewardClient>;
  readonly #connections = new Map<string, Connection>();

  constructor(connect: (term: RewardTerm, signal: AbortSignal) => Promise<RewardClient>) {
    this.#connect = connect;
  }

  /** Terms with their clients, new ones where there are none. Throws the first failure. */
  async connected(terms: readonly RewardTerm[], signal?: AbortSignal): Promise<ConnectedTerm[]> {
    return await Promise.all(terms.map(async (term) => {
      // Others may wait for the same connection: a caller who goes does not end it.
      return { term, client: await raceAbort(this.#connectionOf(term).client, signal) };
    }));
  }

  /**
   * Asks rewards whether they are there, which one that computes can tell as well. Throws `RewardUnavailableError` for
   * the first that does not say so within `ms`.
   */
  async ping(terms: readonly RewardTerm[], ms: number): Promise<void> {
    await Promise.all(terms.map(async (term) => {
      const signal = AbortSignal.timeout(ms);
      try {
        const client = await raceAbort(this.#connectionOf(term).client, signal);
        await raceAbort(client.ping?.(signal) ?? Promise.resolve(), signal);
      } catch (cause) {
        if (cause instanceof RewardUnavailableError) throw cause;
        // What answers with a fault of its own is there.
        if (!signal.aborted) return;
        throw new RewardUnavailableError(
          `Reward ${term.name} at ${term.endpoint} does not answer, nor whether it is there`,
          { cause },
        );
      }
    }));
  }

  /** Closes what none of these terms needs. */
  async keep(terms: readonly RewardTerm[]): Promise<void> {
    const needed = new Set(terms.map(keyOf));
    await this.#close([...this.#connections].filter(([key]) => !needed.has(key)));
  }

  /** Closes all: after a failure the rewards are asked for their facts again, for what comes back may be another. */
  async close(): Promise<void> {
    await this.#close([...this.#connections]);
  }

  #connectionOf(term: RewardTerm): Connection {
    const key = keyOf(term);
    const known = this.#connections.get(key);
    if (known !== undefined) return known;
    const abort = new AbortController();
    const late = AbortSignal.timeout(CONNECT_MS);
    const signal = AbortSignal.any([abort.signal, late]);
    const client = raceAbort(this.#connect(term, signal), signal).catch((cause) => {
      if (!late.aborted) throw cause;
      const where = `Reward ${term.name} at ${term.endpoint}`;
      throw new RewardUnavailableError(`${where} does not answer`, { cause });
    });
    const connection = { client, abort, isMade: false };
    this.#connections.set(key, connection);
    client.then(() => connection.isMade = true, () => {
      // A failed connection is tried again the next time.
      if (this.#connections.get(key) === connection) this.#connections.delete(key);
    });
    return connection;
  }

  async #close(connections: readonly (readonly [string, Connection])[]): Promise<void> {
    for (const [key] of connections) this.#connections.delete(key);
    await Promise.all(connections.map(async ([, { client, abort, isMade }]) => {
      abort.abort();
      // One that is being made is closed whenever it is, and nobody waits for that.
      const closed = client.then((made) => made.close()).catch(() => {});
      if (isMade) await closed;
    }));
  }
}

function keyOf({ endpoint, reward, expectedDigest }: RewardTerm): string {
  return JSON.stringify([endpoint, reward, expectedDigest]);
}
