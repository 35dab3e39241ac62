import { median, slopeOf } from "../support/mod.ts";
import type { Reading } from "./_reading_log.ts";

/** So much more memory than at first is allowed, as a share of it. */
export const ALLOWED = 0.05;
/** Readings that give one median, before which garbage is collected: single ones differ by what has not been yet. */
export const TEN = 10;

/** What memory did over some readings. */
export interface MemoryReport {
  /** A sentence, with numbers. */
  readonly text: string;
  /** What is above the allowed, a sentence each. */
  readonly faults: readonly string[];
}

/**
 * Compares the median memory of server and worker together over each ten swaps of a process with that over its second
 * ten, when code is compiled and heaps have their size. A ten that is not full says nothing, nor does a process that
 * did fewer than thirty swaps.
 */
export function memoryOfSwaps(lives: readonly (readonly Reading[])[]): MemoryReport {
  const compared = lives.flatMap((life) => {
    const totals = life.flatMap(({ resident }) =>
      resident ? [resident.server + resident.worker] : []
    );
    const [, usual, ...later] = medians(totals);
    if (usual === undefined || later.length === 0) return [];
    return [{ usual, growth: later.map((mib) => mib / usual - 1) }];
  });
  if (compared.length === 0) return { text: "too few swaps to compare their memory", faults: [] };
  const growth = compared.flatMap(({ growth }) => growth);
  const above = growth.filter((share) => share > ALLOWED).length;
  return {
    text: `median memory over a process's second ten swaps ${
      compared.map(({ usual }) => usual.toFixed(0)).join(", ")
    } MiB, over each of ${growth.length} tens since ${percent(Math.min(...growth))} to ${
      percent(Math.max(...growth))
    } above that`,
    faults: above === 0 ? [] : [
      `Memory was more than ${
        percent(ALLOWED)
      } above that of the second ten over ${above} of ${growth.length} tens of swaps`,
    ],
  };
}

/**
 * Fits a line to a server's memory after each failed load, the first quarter of a process's left out, and says by how
 * much it may have grown over the others, by the upper end of the 95 % interval. A process with fewer than a hundred
 * says nothing.
 */
export function memoryOfFailedLoads(lives: readonly (readonly Reading[])[]): MemoryReport {
  const fitted = lives.flatMap((life) => {
    const all = life.flatMap(({ resident }, i): [number, number][] =>
      resident ? [[i, resident.server]] : []
    );
    if (all.length < 100) return [];
    const counted = all.slice(all.length / 4);
    const slope = slopeOf(counted);
    if (slope === undefined) return [];
    const { usual, low, high } = slope;
    return [{
      usual,
      low: low * counted.length,
      high: high * counted.length,
      loads: counted.length,
    }];
  });
  if (fitted.length === 0) {
    return { text: "too few failed loads to tell their memory", faults: [] };
  }
  return {
    text: fitted.map(({ usual, low, high, loads }) =>
      `memory of the server ${usual.toFixed(0)} MiB, growth over ${loads} failed loads ${
        low.toFixed(1)
      } to ${high.toFixed(1)} MiB (95 % interval)`
    ).join("; "),
    faults: fitted.filter(({ usual, high }) => high > ALLOWED * usual).map((
      { usual, high, loads },
    ) =>
      `Memory of the server may have grown by ${
        high.toFixed(1)
      } MiB over ${loads} failed loads, expected at most ${(ALLOWED * usual).toFixed(1)}`
    ),
  };
}

/** Of each full ten of values. */
function medians(values: readonly number[]): number[] {
  return Array.from(
    { length: Math.floor(values.length / TEN) },
    (_, i) => median(values.slice(TEN * i, TEN * (i + 1))),
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
