import { isClear, type Target } from "./targets.ts";
import { Dice } from "./_mutate.ts";

/** A case that was neither read nor clearly refused. */
export interface Finding {
  readonly target: string;
  /** Of the case: with the target's name it is made again. */
  readonly seed: number;
  readonly what: string;
}

/** What came of the cases of one target. */
export interface FuzzReport {
  readonly target: string;
  readonly read: number;
  readonly refused: number;
  /** Of the slowest case. */
  readonly seconds: number;
  readonly findings: readonly Finding[];
}

/** The mutated input of a case: the same for the same numbers, on every machine. */
export function fuzzCase({ name, seeds, mutate }: Target, seed: number): Uint8Array {
  const dice = new Dice(
    seed ^ [...name].reduce((sum, ch) => Math.imul(sum, 31) + ch.charCodeAt(0), 7),
  );
  return mutate(dice.pick([seeds[0], ...seeds.slice(1)]), dice);
}

/**
 * Feeds a target with cases.
 *
 * @param onCase told of each before it is read, so that whoever watches knows which one does not come back
 */
export async function fuzz(
  target: Target,
  { from, count, boundSeconds, onCase = () => {} }: {
    readonly from: number;
    readonly count: number;
    /** A case that takes longer is a finding. */
    readonly boundSeconds: number;
    readonly onCase?: (seed: number) => void;
  },
): Promise<FuzzReport> {
  let [read, refused, slowest] = [0, 0, 0];
  const findings: Finding[] = [];
  for (let seed = from; seed < from + count; seed++) {
    onCase(seed);
    const bytes = fuzzCase(target, seed);
    const find = (what: string) => findings.push({ target: target.name, seed, what });
    const start = performance.now();
    try {
      await target.read(bytes);
      read++;
    } catch (error) {
      if (isClear(error, target)) refused++;
      else find(error instanceof Error ? error.stack ?? error.message : String(error));
    }
    const seconds = (performance.now() - start) / 1000;
    slowest = Math.max(slowest, seconds);
    if (seconds > boundSeconds) find(`took ${seconds.toFixed(1)} s`);
  }
  return { target: target.name, read, refused, seconds: slowest, findings };
}
