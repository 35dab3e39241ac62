import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { DataType, type LoadRewardResponse, RewardAdmin, RewardService } from "../../proto/mod.ts";
import { type GrpcClient, grpcClient } from "../../services/rpc/mod.ts";
import { Victim } from "./_victim.ts";

const TOKEN = "aTokenOfEnoughLetters";
/** Height and width of the images, in pixels: what a swap costs is to be the swap, not its messages. */
const SIDE = 16;
/** How often each client asks while a reward loads. */
const ASKS = 4;

/** What a server holds is known when it has not become less in so many looks, so many milliseconds apart. */
const [HELD_LOOKS, HELD_MS] = [5, 200];

/** Two sets of weights of one kind, and so two digests. */
export const RECORDS = ["channel", "global"].map((std) => ({ kind: "symmetry", std }));

/** Resident memory in MiB; of no process 0. */
export interface Resident {
  readonly server: number;
  /** Of all its children. */
  readonly worker: number;
}

/**
 * A reward server with clients that keep asking it for value and gradient. A request that fails, and an answer that none
 * of the rewards gives, reject whatever is waited for by `during`.
 */
export class LoadedServer implements AsyncDisposable {
  readonly #admin: GrpcClient<typeof RewardAdmin>;
  /** Scores by digest: a reward says the same of an image each time. */
  readonly scores: ReadonlyMap<string, number>;
  readonly #server: Victim;
  readonly #asking: Asking;
  /** What the load before took. */
  #loadMs = 1000;
  #inFlightAtLoad = 0;

  private constructor(server: Victim, admin: GrpcClient<typeof RewardAdmin>, asking: Asking) {
    this.#server = server;
    this.#admin = admin;
    this.#asking = asking;
    this.scores = asking.scores;
  }

  /**
   * @param folder an empty one
   * @param clients that ask at the same time, each with a connection of its own
   */
  static async start(
    { folder, clients }: { readonly folder: string; readonly clients: number },
  ): Promise<LoadedServer> {
    const tokenFile = join(folder, "token");
    await Deno.writeTextFile(tokenFile, TOKEN);
    const config = join(folder, "rewards.yaml");
    const admin = { port: 0, tokenFile };
    await Deno.writeTextFile(
      config,
      JSON.stringify({ port: 0, threads: 1, rewards: [RECORDS[0]], admin }),
    );
    const server = new Victim("services/reward/main.ts", [
      "--config",
      config,
    ], {
      env: { DENO_USR2_MEMORY_TRIM: "1" },
    });
    const { address, adminAddress = "" } = await server.ready;
    return new LoadedServer(
      server,
      grpcClient(RewardAdmin, adminAddress, { token: TOKEN }),
      new Asking(address, clients),
    );
  }

  /** Requests that were answered. */
  get answered(): number {
    return this.#asking.answered;
  }

  /** Requests that were waiting for an answer when the last load was answered. */
  get inFlightAtLoad(): number {
    return this.#inFlightAtLoad;
  }

  /**
   * Loads a reward while each client asks about four times, at random instants. Rejects with the load, and when a client
   * fails.
   */
  async load(config: Record<string, string>): Promise<LoadRewardResponse> {
    const begun = performance.now();
    this.#asking.pauseMs = 2 * this.#loadMs / ASKS;
    try {
      return await this.during(this.#admin.loadReward({ name: "symmetry", config }));
    } finally {
      this.#loadMs = performance.now() - begun;
      this.#inFlightAtLoad = this.#asking.inFlight;
      this.#asking.pauseMs = 0;
    }
  }

  /** Waits for work under load. Rejects with the work, and when a client fails. */
  during<T>(work: Promise<T>): Promise<T> {
    return Promise.race([
      work,
      this.#asking.ended.then(() => assert.fail("The clients have ended")),
    ]);
  }

  /** Waits for so many answers more. */
  async answers(count: number): Promise<void> {
    for (const enough = this.answered + count; this.answered < enough;) {
      await this.during(new Promise((resolve) => setTimeout(resolve, 10)));
    }
  }

  /**
   * What the server holds: the least resident memory, in MiB, once it has been told to give back the rest, while no
   * client asks. V8 leaves garbage for as long as it likes, and glibc what was freed. Undefined where the system does not
   * tell.
   */
  async held(): Promise<number | undefined> {
    this.#asking.rest();
    try {
      this.#server.kill("SIGUSR2");
      let least = Infinity;
      for (let i = 0; i < HELD_LOOKS; i++) {
        await this.during(new Promise((resolve) => setTimeout(resolve, HELD_MS)));
        const now = (await this.resident())?.server;
        if (now === undefined) return undefined;
        // On a busy machine the signal is heard late.
        if (now < least - 1) i = 0;
        least = Math.min(least, now);
      }
      return least;
    } finally {
      this.#asking.go();
    }
  }

  /** Resident memory now; undefined where the system does not tell. */
  async resident(): Promise<Resident | undefined> {
    if (Deno.build.os !== "linux") return undefined;
    const { pid } = this.#server;
    const children = await childrenOf(pid);
    const [server = 0, ...workers] = await Promise.all([pid, ...children].map(residentMiB));
    return { server, worker: workers.reduce((a, b) => a + b, 0) };
  }

  /** Lets the clients finish what they asked. Throws where one failed. */
  async finish(): Promise<void> {
    this.#asking.stop();
    await this.#asking.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#asking.stop();
    this.#asking.close();
    this.#admin.close();
    await this.#server.end("SIGTERM");
  }
}

/** Clients that ask one after another. */
class Asking {
  readonly scores = new Map<string, number>();
  /** Settles when all have stopped. Rejects when one fails. */
  readonly ended: Promise<unknown>;
  readonly #clients: readonly GrpcClient<typeof RewardService>[];
  readonly #stopped = new AbortController();
  #resting: PromiseWithResolvers<void> | undefined;
  answered = 0;
  inFlight = 0;
  /** Longest pause of a client between an answer and its next request; they are evenly spread from 0. */
  pauseMs = 0;

  constructor(address: string, clients: number) {
    this.#clients = Array.from({ length: clients }, () => grpcClient(RewardService, address));
    this.ended = Promise.all(this.#clients.map((client) => this.#ask(client)));
    // Told by whoever waits.
    this.ended.catch(() => {});
  }

  stop(): void {
    this.#stopped.abort();
    this.go();
  }

  /** Lets nobody ask until `go`. */
  rest(): void {
    this.#resting = Promise.withResolvers();
  }

  go(): void {
    this.#resting?.resolve();
    this.#resting = undefined;
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  async #ask(client: GrpcClient<typeof RewardService>): Promise<void> {
    const pixels = Float32Array.from({ length: 3 * SIDE * SIDE }, (_, i) => i % 251 / 250);
    const data = new Uint8Array(pixels.buffer);
    const value = { dtype: DataType.FLOAT32, shape: [1, 3, SIDE, SIDE], data };
    const images = [{ source: { case: "tensor" as const, value } }];
    while (!this.#stopped.signal.aborted) {
      this.inFlight++;
      const { scores: [score = NaN], gradients, digest } = await client.scoreAndGradient({
        images,
      });
      this.inFlight--;
      this.answered++;
      assert.equal(gradients[0]?.data.length, data.length);
      const known = this.scores.get(digest) ?? score;
      assert.ok(Math.abs(known - score) < 1e-5 * known, `${digest} says ${score}, before ${known}`);
      this.scores.set(digest, known);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * this.pauseMs));
      await this.#resting?.promise;
    }
  }
}

/** Ids of a process's children, of whichever thread. */
async function childrenOf(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(threads.map((thread) => {
    // A thread may end meanwhile.
    return readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "");
  }));
  return lists.flatMap((list) => list.split(" ").filter((id) => id !== "").map(Number));
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
}
