import assert from "node:assert/strict";
import { LoadedServer, RECORDS } from "./_loaded_server.ts";
import { memoryOfSwaps, TEN } from "./_memory.ts";
import { progress } from "./_progress.ts";
import { ReadingLog } from "./_reading_log.ts";

/** Answers after a swap, after which the new process is like those before. */
const SETTLED = 32;

/** How a server's reward is loaded again and again. */
export interface LoadOptions {
  /** How many loads there are, those included that an earlier call did in this folder. */
  readonly count: number;
  /** That ask at the same time. */
  readonly clients: number;
  /** An empty folder, or that of a call that was ended. */
  readonly folder: string;
  readonly say: (line: string) => void;
  /** Ends it after the present load. */
  readonly signal?: AbortSignal;
}

/** What came of loads under load. */
export interface LoadReport {
  /** How many there were, in all calls. */
  readonly loads: number;
  /** Requests that were answered meanwhile, each by one of the rewards there were. */
  readonly answered: number;
  /** Of the loads, at how many a request waited for its answer when the load was answered. */
  readonly underWay: number;
  /** What memory did, in words. */
  readonly memory: string;
  /** What is wrong with that, and what ended earlier calls, a sentence each. */
  readonly faults: readonly string[];
}

/**
 * Swaps a reward server's reward while clients keep asking for value and gradient. Throws unless every request is
 * answered by one of both rewards, each of which always gives the same score.
 */
export async function swapUnderLoad(
  { count, clients, folder, say, signal }: LoadOptions,
): Promise<LoadReport> {
  const log = await ReadingLog.open(folder);
  const before = log.count;
  await log.keep(async () => {
    if (before >= count) return;
    await using server = await LoadedServer.start({ folder, clients });
    const begun = performance.now();
    let told = 0;
    while (log.count < count && !signal?.aborted) {
      if ((log.count - before) % TEN === 0) server.trim();
      const config = RECORDS[(log.count - before + 1) % 2] ?? {};
      const { reward, replacedDigest } = await server.load(config);
      const { inFlight } = server;
      assert.notEqual(reward?.digest, replacedDigest);
      await server.answers(SETTLED);
      const resident = await server.resident();
      const { answered } = server;
      await log.add({ answered: answered - told, inFlight, ...(resident && { resident }) });
      told = answered;
      const done = log.count - before;
      say(
        `swap ${progress(done, { of: count - before, begun })}: ${answered} answers, ${
          resident?.server.toFixed(0)
        } + ${resident?.worker.toFixed(0)} MiB`,
      );
    }
    await server.finish();
    assert.equal(server.scores.size, Math.min(2, 1 + log.count - before));
  });
  return reportOf(log, memoryOfSwaps);
}

/** Adds up what a log holds. */
export function reportOf(log: ReadingLog, memoryOf: typeof memoryOfSwaps): LoadReport {
  const lives = log.lives();
  const readings = lives.flat();
  const { text: memory, faults } = memoryOf(lives);
  return {
    loads: readings.length,
    answered: readings.reduce((sum, { answered }) => sum + answered, 0),
    underWay: readings.filter(({ inFlight }) => inFlight > 0).length,
    memory,
    faults: [...log.failures, ...faults],
  };
}
