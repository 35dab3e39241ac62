import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { raceAbort } from "../../base/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { outcome, startReward, startTrainer, train, type Victim } from "../fault/mod.ts";
import { startClusterTrainer, startWorker } from "./_cluster_services.ts";
import { NatsServer } from "./_nats_server.ts";

/** How a cluster is disturbed. */
export interface ClusterKills {
  /** kill -9 of workers, of the trainer that leads, and of NATS. */
  readonly workers: number;
  readonly trainers: number;
  readonly nats: number;
  /** Mean seconds between two of them. */
  readonly every: number;
  /** Workers that there are. */
  readonly size: number;
  /** Of the instants, and of who is killed. */
  readonly seed: number;
  /** An empty folder. */
  readonly folder: string;
  readonly say: (line: string) => void;
  /** Ends it early, and every process that it started. */
  readonly signal?: AbortSignal | undefined;
}

/** What came of it. */
export interface ClusterReport {
  /** Runs that ended with the bytes of an undisturbed one. */
  readonly runs: number;
  /** Seconds from the death of each trainer until another led, ascending. */
  readonly takeovers: readonly number[];
  /** Processes that ended without having been killed. */
  readonly ended: number;
}

/** Two images a batch, an image a shard. */
const FIELDS = { shard: { images: 1 }, batch: { size: 2, accumulation: 2 } };

/**
 * Kills workers, trainers and NATS at random instants while runs train one after the other. Throws unless each of them ends
 * with the bytes of an undisturbed one that a single process computed.
 */
export async function killCluster(options: ClusterKills): Promise<ClusterReport> {
  const { folder } = options;
  const reward = startReward();
  const { address } = await reward.ready;
  const expected = await undisturbed(join(folder, "alone"), address);
  const nats = await NatsServer.start(folder);
  const cluster = new DisturbedCluster(nats, options);
  try {
    const chaos = cluster.disturb();
    let runs = 0;
    const done = { chaos: false };
    chaos.finally(() => done.chaos = true).catch(() => {});
    do {
      const id = `run-${runs}`;
      const training = cluster.train(id, address);
      training.catch(() => {});
      const disturbing = chaos.then(() => new Promise(() => {}));
      // Whoever ends it early wants no process left behind, NATS' least of all: it ends with nobody.
      await raceAbort(Promise.race([training, disturbing]), options.signal);
      assert.deepEqual(await outcome(cluster.runs, id), expected, id);
      await rm(join(cluster.runs, id), { recursive: true });
      runs++;
      options.say(`${id}: every bit as undisturbed`);
    } while (!done.chaos);
    await chaos;
    const takeovers = cluster.takeovers.toSorted((a, b) => a - b);
    return { runs, takeovers, ended: cluster.ended };
  } finally {
    await cluster.end();
    await nats.kill();
    await reward.end();
  }
}

/** What a run comes to that one process computes, cut into the same shards. */
async function undisturbed(runs: string, reward: string) {
  const trainer = startTrainer(runs);
  try {
    await train((await trainer.ready).address, { id: "run", reward, fields: FIELDS });
    return await outcome(runs, "run");
  } finally {
    await trainer.end();
  }
}

/** A cluster of two trainers, of which one leads, and some workers, all of which are killed and replaced. */
class DisturbedCluster {
  readonly runs: string;
  readonly takeovers: number[] = [];
  /** Processes that ended by themselves. */
  ended = 0;
  readonly #nats: NatsServer;
  readonly #options: ClusterKills;
  readonly #random: Random;
  readonly #workers: Victim[] = [];
  readonly #trainers: Victim[] = [];
  /** The trainer that was ready last: it leads. */
  #leader = Promise.withResolvers<Victim>();
  #started = 0;
  #isOver = false;

  constructor(nats: NatsServer, options: ClusterKills) {
    this.#nats = nats;
    this.#options = options;
    this.#random = new Random(options.seed);
    this.runs = join(options.folder, "runs");
    for (let i = 0; i < 2; i++) this.#startTrainer(i);
    for (let i = 0; i < options.size; i++) this.#startWorker(i);
  }

  /** Has a run trained by whoever leads, until it has ended. */
  async train(id: string, reward: string): Promise<void> {
    for (;;) {
      const leader = await this.#leader.promise;
      try {
        const { address } = await leader.ready;
        return await train(address, { id, reward, fields: FIELDS });
      } catch (error) {
        // A run that failed is a fault; a trainer that died is not.
        if (error instanceof Error && /^Run .* is (FAILED|STOPPED)/.test(error.message)) {
          throw error;
        }
        await new Promise((wait) => setTimeout(wait, 100));
      }
    }
  }

  /** Does all the killing. */
  async disturb(): Promise<void> {
    const { workers, trainers, nats, every, say } = this.#options;
    const left = { workers, trainers, nats };
    await this.#leader.promise;
    for (;;) {
      const total = left.workers + left.trainers + left.nats;
      if (total === 0) return;
      await new Promise((wait) => setTimeout(wait, 2000 * every * this.#random.uniform()));
      const at = this.#random.integer(1, total);
      if (at <= left.workers) {
        left.workers--;
        const i = this.#random.integer(0, this.#workers.length - 1);
        const victim = this.#workers[i];
        this.#startWorker(i);
        await victim?.end();
      } else if (at <= left.workers + left.trainers) {
        left.trainers--;
        await this.#killLeader();
      } else {
        left.nats--;
        await this.#nats.kill();
        await new Promise((wait) => setTimeout(wait, 2000 * this.#random.uniform()));
        if (this.#isOver) return;
        await this.#nats.start();
      }
      say(`left: ${left.workers} workers, ${left.trainers} trainers, ${left.nats} NATS`);
    }
  }

  async end(): Promise<void> {
    this.#isOver = true;
    for (const victim of [...this.#trainers, ...this.#workers]) await victim.end();
  }

  async #killLeader(): Promise<void> {
    const leader = await this.#leader.promise;
    this.#leader = Promise.withResolvers();
    const begun = performance.now();
    this.#startTrainer(this.#trainers.indexOf(leader));
    await leader.end();
    await this.#leader.promise;
    this.takeovers.push((performance.now() - begun) / 1000);
  }

  #startTrainer(i: number): void {
    const victim = startClusterTrainer(this.runs, this.#nats.address);
    victim.ready.then(() => {
      this.#leader.resolve(victim);
      this.#leader = Promise.withResolvers();
      this.#leader.resolve(victim);
    }, () => {});
    this.#keep(this.#trainers, { i, victim, again: () => this.#startTrainer(i) });
  }

  #startWorker(i: number): void {
    const name = `worker-${this.#started++}`;
    const victim = startWorker(this.#nats.address, { name });
    this.#keep(this.#workers, { i, victim, again: () => this.#startWorker(i) });
  }

  /** Puts a process into its place, and another one where it ends by itself. */
  #keep(
    list: Victim[],
    { i, victim, again }: {
      readonly i: number;
      readonly victim: Victim;
      readonly again: () => void;
    },
  ): void {
    list[i] = victim;
    victim.ended.then(() => {
      if (this.#isOver || list[i] !== victim) return;
      this.ended++;
      this.#options.say(`ended by itself: ${victim.lastLines.join(" ").slice(-300)}`);
      again();
    });
  }
}
