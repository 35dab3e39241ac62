import { median, slopeOf } from "../support/mod.ts";
import type { Reading } from "./_reading_log.ts";

/** So much more memory than at first is allowed, as a share of it. */
export const ALLOWED = 0.05;
/** Loads after which garbage is collected: single readings differ by what has not been yet. */
export const TEN = 10;

/** What memory did over some readings. */
export interface MemoryReport {
  /** A sentence, with numbers. */
  readonly text: string;
  /** What is above the allowed, a sentence each. */
  readonly faults: readonly string[];
}

/**
 * Compares memory after each ten swaps of a process with that after its second ten, when code is compiled: what the
 * server holds once it has given back the rest, and the median of what its workers had. Resident memory as it was, of
 * which V8 decides how much is garbage, is only told. A ten that is not full says nothing, nor does a process that did
 * fewer than thirty swaps.
 */
export function memoryOfSwaps(lives: readonly (readonly Reading[])[]): MemoryReport {
  const held = compared(lives, (ten) => {
    const { held } = ten.at(-1) ?? {};
    const workers = ten.flatMap(({ resident }) => resident?.worker ?? []);
    return held === undefined ? [] : [held + median(workers)];
  });
  const resident = compared(lives, (ten) => {
    const totals = ten.flatMap(({ resident }) =>
      resident ? [resident.server + resident.worker] : []
    );
    return totals.length < TEN ? [] : [median(totals)];
  });
  const above = held.growth.filter((share) => share > ALLOWED).length;
  return {
    text: `memory that is held ${held.text}; resident memory ${resident.text}`,
    faults: above === 0 ? [] : [
      `Memory that is held was more than ${
        percent(ALLOWED)
      } above that of the second ten after ${above} of ${held.growth.length} tens of swaps`,
    ],
  };
}

/** Sets a value of each ten of a process in relation to that of its second ten. */
function compared(
  lives: readonly (readonly Reading[])[],
  valueOf: (ten: readonly Reading[]) => readonly number[],
): { readonly growth: readonly number[]; readonly text: string } {
  const found = lives.flatMap((life) => {
    const tens = Array.from({ length: Math.floor(life.length / TEN) }, (_, i) => {
      return life.slice(TEN * i, TEN * (i + 1));
    });
    const [, usual, ...later] = tens.flatMap(valueOf);
    if (usual === undefined || later.length === 0) return [];
    return [{ usual, growth: later.map((mib) => mib / usual - 1) }];
  });
  const growth = found.flatMap(({ growth }) => growth);
  if (growth.length === 0) return { growth, text: "not compared" };
  const usual = found.map(({ usual }) => usual.toFixed(0)).join(", ");
  const range = `${percent(Math.min(...growth))} to ${percent(Math.max(...growth))}`;
  return {
    growth,
    text: `${usual} MiB at a process's second ten, over ${growth.length} tens since ${range} more`,
  };
}

/**
 * Fits a line to what a server holds after each ten failed loads, the first quarter of a process's left out, and says by
 * how much it may have grown over the others, by the upper end of the 95 % interval. A process with fewer than a hundred
 * loads says nothing.
 */
export function memoryOfFailedLoads(lives: readonly (readonly Reading[])[]): MemoryReport {
  const fitted = lives.flatMap((life) => {
    if (life.length < 100) return [];
    const first = life.length / 4;
    const counted = life.flatMap(({ held }, i): [number, number][] =>
      held === undefined || i < first ? [] : [[i, held]]
    );
    const slope = slopeOf(counted);
    if (slope === undefined) return [];
    const { usual, low, high } = slope;
    const loads = Math.floor(life.length - first);
    return [{ usual, low: low * loads, high: high * loads, loads }];
  });
  if (fitted.length === 0) {
    return { text: "too few failed loads to tell their memory", faults: [] };
  }
  return {
    text: fitted.map(({ usual, low, high, loads }) =>
      `the server holds ${usual.toFixed(0)} MiB, growth over ${loads} failed loads ${
        low.toFixed(1)
      } to ${high.toFixed(1)} MiB (95 % interval)`
    ).join("; "),
    faults: fitted.filter(({ usual, high }) => high > ALLOWED * usual).map((
      { usual, high, loads },
    ) =>
      `What the server holds may have grown by ${
        high.toFixed(1)
      } MiB over ${loads} failed loads, expected at most ${(ALLOWED * usual).toFixed(1)}`
    ),
  };
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
