import { JetStreamApiCodes, JetStreamApiError } from "@nats-io/jetstream";
import { type KV, Kvm } from "@nats-io/kv";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Logger } from "../../../base/mod.ts";
import { connectNats } from "../../cluster/mod.ts";
import type { NatsOptions } from "../../launch/mod.ts";

/** The bucket that says who leads, and its only key. */
const [BUCKET, KEY] = ["DRTUNE_LEADER", "leader"];
/** A leader that others see renew nothing for this long leads no more, in milliseconds. */
const LEASE_MS = 6_000;
/** Between two renewals, and between two looks of those who wait, in milliseconds. */
const [RENEW_MS, LOOK_MS] = [1_000, 250];

/** Letters that tell a lead from all others. */
const ID_LENGTH = 8;

const pause = (ms: number) => new Promise((wait) => setTimeout(wait, ms));

/**
 * The lead of a cluster's trainers: a key that its leader renews, always from the revision that it wrote last, so that
 * nobody can have written in between. Those who stand by measure the time of a silent leader themselves, and take the key
 * from the revision that they saw: of two who try one gets it, and a leader that was only slow learns it at its next
 * renewal. While NATS is away nobody takes the lead; there is no work without NATS.
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
    { kv, revision, own }: {
      readonly kv: KV;
      readonly revision: number;
      /** What this lead writes, and nobody else. */
      readonly own: string;
    },
  ) {
    this.#nats = nats;
    this.#kv = kv;
    this.#revision = revision;
    this.epoch = `${revision}-${own.slice(-ID_LENGTH)}`;
    this.lost = this.#keep(own);
  }

  /** Waits until nobody else leads, and leads. Throws an `Error` where NATS refuses the connection. */
  static async take(
    options: NatsOptions,
    { name, log }: {
      /** Of this trainer, for those who look. */
      readonly name: string;
      readonly log: Logger;
    },
  ): Promise<Leadership> {
    const nats = await connectNats(options, { name, log });
    // A process that is started again may have the name of the one before.
    const own = `${name} ${crypto.randomUUID().slice(0, ID_LENGTH)}`;
    let said = "";
    const say = (words: string) => {
      if (words !== said) log.info(words);
      said = words;
    };
    /** The revision that a leader wrote last, and since when it was seen. */
    let seen: { readonly revision: number; readonly since: number } | undefined;
    for (;; await pause(LOOK_MS)) {
      try {
        const kv = await new Kvm(nats).create(BUCKET, { history: 1 });
        const entry = await kv.get(KEY);
        const now = performance.now();
        let revision: number | undefined;
        if (entry === null || entry.operation !== "PUT") revision = await kv.create(KEY, own);
        // Written by a try whose answer was lost.
        else if (entry.string() === own) revision = entry.revision;
        else if (seen?.revision !== entry.revision) {
          seen = { revision: entry.revision, since: now };
          say(`Stands by: ${entry.string()} leads`);
        } else if (now - seen.since > LEASE_MS) {
          revision = await kv.update(KEY, own, entry.revision);
        }
        if (revision === undefined) continue;
        log.info("Leads the cluster", { name, revision });
        return new Leadership(nats, { kv, revision, own });
      } catch (error) {
        seen = undefined;
        // Another was first.
        if (!isTaken(error)) say(`Stands by: ${error instanceof Error ? error.message : error}`);
      }
    }
  }

  /** Gives the lead up, for another to take at once. */
  async release(): Promise<void> {
    this.#ended.abort();
    await this.#kv.delete(KEY, { previousSeq: this.#revision }).catch(() => {});
    await this.#nats.close();
  }

  /** Renews the lead until it is lost. */
  async #keep(own: string): Promise<string> {
    const { signal } = this.#ended;
    for (;;) {
      await pause(RENEW_MS);
      if (signal.aborted) return await new Promise<never>(() => {});
      try {
        this.#revision = await this.#kv.update(KEY, own, this.#revision);
      } catch (error) {
        // Whatever else it is, NATS is away for a while.
        if (isTaken(error) && !await this.#isOwn(own)) return "another trainer took the lead";
      }
    }
  }

  /** Whether the key is ours after all, or cannot be read: a renewal is written though its answer was lost. */
  async #isOwn(own: string): Promise<boolean> {
    try {
      const entry = await this.#kv.get(KEY);
      if (entry?.operation !== "PUT" || entry.string() !== own) return false;
      this.#revision = entry.revision;
      return true;
    } catch {
      return true;
    }
  }
}

function isTaken(error: unknown): boolean {
  return error instanceof JetStreamApiError &&
    error.code === JetStreamApiCodes.StreamWrongLastSequence;
}
