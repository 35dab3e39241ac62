import { type KV, Kvm } from "@nats-io/kv";
import { JetStreamApiCodes, JetStreamApiError } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Logger } from "../../../base/mod.ts";
import { connectNats } from "../../cluster/mod.ts";
import type { NatsOptions } from "../../launch/mod.ts";

/** The bucket that says who leads, and its only key. */
const [BUCKET, KEY] = ["DRTUNE_LEADER", "leader"];
/** A leader that has not renewed its lease for this long leads no more, in milliseconds. */
const LEASE_MS = 6_000;
/** Between two renewals, and between two looks of those who wait, in milliseconds. */
const [RENEW_MS, LOOK_MS] = [1_000, 500];

/**
 * The lead of a cluster's trainers, a lease in a key-value bucket. Whoever makes the key leads; the revision that it
 * renews the key with proves that nobody did in between.
 */
export class Leadership {
  /** Unlike every other lead's, before and after. */
  readonly epoch: string;
  /** Resolves with the reason when the lead is lost: this process must write no more. */
  readonly lost: Promise<string>;
  readonly #nats: NatsConnection;
  readonly #kv: KV;
  readonly #ended = new AbortController();
  #revision: number;

  private constructor(
    nats: NatsConnection,
    { kv, revision, name }: { readonly kv: KV; readonly revision: number; readonly name: string },
  ) {
    this.#nats = nats;
    this.#kv = kv;
    this.#revision = revision;
    this.epoch = `${revision}-${crypto.randomUUID().slice(0, 8)}`;
    this.lost = this.#keep(name);
  }

  /** Waits until nobody else leads, and leads. Throws an `Error` where NATS cannot be reached at first. */
  static async take(
    options: NatsOptions,
    { name, log }: {
      /** Of this trainer, for those who look. */
      readonly name: string;
      readonly log: Logger;
    },
  ): Promise<Leadership> {
    const nats = await connectNats(options, { name, log });
    let said = "";
    const say = (words: string) => {
      if (words !== said) log.info(words);
      said = words;
    };
    for (;;) {
      try {
        const kv = await new Kvm(nats).create(BUCKET, { ttl: LEASE_MS, history: 1 });
        const revision = await kv.create(KEY, name);
        log.info("Leads the cluster", { name, revision });
        return new Leadership(nats, { kv, revision, name });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        say(`Stands by: ${isTaken(error) ? "another trainer leads" : reason}`);
        await new Promise((wait) => setTimeout(wait, LOOK_MS));
      }
    }
  }

  /** Gives the lead up, for another to take at once. */
  async release(): Promise<void> {
    this.#ended.abort();
    await this.#kv.delete(KEY, { previousSeq: this.#revision }).catch(() => {});
    await this.#nats.close();
  }

  /** Renews the lease until it is lost. While NATS is away nobody can take it, and there is no work without NATS. */
  async #keep(name: string): Promise<string> {
    const { signal } = this.#ended;
    for (;;) {
      await new Promise((wait) => setTimeout(wait, RENEW_MS));
      if (signal.aborted) return await new Promise<never>(() => {});
      try {
        this.#revision = await this.#kv.update(KEY, name, this.#revision);
      } catch (error) {
        if (isTaken(error) && !await this.#takenBack(name)) return "another trainer took it";
      }
    }
  }

  /** After a lease that ran out while NATS was away: made anew with the next revision, nobody led in between. */
  async #takenBack(name: string): Promise<boolean> {
    try {
      const revision = await this.#kv.create(KEY, name);
      if (revision !== this.#revision + 1) return false;
      this.#revision = revision;
      return true;
    } catch (error) {
      // Whatever else it is, the next renewal finds out.
      return !isTaken(error);
    }
  }
}

function isTaken(error: unknown): boolean {
  return error instanceof JetStreamApiError &&
    error.code === JetStreamApiCodes.StreamWrongLastSequence;
}
