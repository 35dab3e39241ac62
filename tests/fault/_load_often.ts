import { LoadedServer } from "./_loaded_server.ts";
import { type MemoryReport, TEN } from "./_memory.ts";
import { progress } from "./_progress.ts";
import { type Reading, ReadingLog } from "./_reading_log.ts";

/** How a server's reward is loaded again and again. */
export interface LoadOptions {
  /** How many loads there are, those included that an earlier call did in this folder. */
  readonly count: number;
  /** That ask at the same time. */
  readonly clients: number;
  /** An empty folder, or that of a call that was ended. */
  readonly folder: string;
  readonly say: (line: string) => void;
  /** After each tenth load the server gives back what it does not use, so that readings compare. Default true. */
  readonly trims?: boolean;
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
 * Loads rewards while clients keep asking a server, and reads its memory after each.
 *
 * @param turn asks for a load; `index` counts those of this process. Throws where it is not answered as it should be
 * @param check throws where the answers of all clients, after `done` loads, are not as they should be
 */
export async function loadOften(
  { count, clients, folder, say, signal, trims = true }: LoadOptions,
  { what, turn, check, memoryOf }: {
    readonly what: string;
    readonly turn: (server: LoadedServer, index: number) => Promise<void>;
    readonly check: (server: LoadedServer, done: number) => void;
    readonly memoryOf: (lives: readonly (readonly Reading[])[]) => MemoryReport;
  },
): Promise<LoadReport> {
  const log = await ReadingLog.open(folder);
  const left = count - log.count;
  await log.keep(async () => {
    if (left <= 0) return;
    await using server = await LoadedServer.start({ folder, clients });
    const begun = performance.now();
    let [done, told] = [0, 0];
    while (done < left && !signal?.aborted) {
      await turn(server, done++);
      const { answered, inFlightAtLoad: inFlight } = server;
      const resident = await server.resident();
      const held = trims && done % TEN === 0 ? await server.held() : undefined;
      await log.add({
        ...{ answered: answered - told, inFlight },
        ...(resident && { resident }),
        ...(held !== undefined && { held }),
      });
      told = answered;
      const mib = resident ? `${resident.server.toFixed(0)} + ${resident.worker.toFixed(0)}` : "?";
      say(`${what} ${progress(done, { of: left, begun })}: ${answered} answers, ${mib} MiB`);
    }
    await server.finish();
    check(server, done);
  });
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
