import { createHash } from "node:crypto";
import { stringify } from "yaml";
import type { RunConfig } from "../../../proto/mod.ts";
import { ConfigError } from "../../launch/mod.ts";
import { UsageError } from "../command.ts";
import { parseRunConfig } from "../trainer/run_config_file.ts";
import { deepMerge, type Fields } from "./deep_merge.ts";
import type { GridStudy, Measure } from "./study_schema.ts";

/** One value of each axis, by the axis' name. */
export type Cell = Readonly<Record<string, string>>;

/** A run that a study wants. */
export interface RunSpec {
  /** Name of the run: from the study's and the cell's, and from a digest of everything that decides its outcome. */
  readonly id: string;
  readonly cell: Cell;
  readonly seed: number;
  /** As its YAML says. */
  readonly fields: Fields;
  readonly config: RunConfig;
  /** Seconds of compute. */
  readonly budget: number;
  readonly measure: Measure;
  /** The candidate that it tries, in runs by which settings are chosen. */
  readonly candidate?: string;
}

/** Iterations of a run that ends by its budget: as many as there may be. */
const ENDLESS = 2 ** 21 - 1;

/** Whether a cell has the values that are named. */
export function isPart(part: Cell, cell: Cell): boolean {
  return Object.entries(part).every(([axis, value]) => cell[axis] === value);
}

/** Every cell of a grid but those left out, the last axis changing fastest. */
export function cellsOf({ axes, skip }: Pick<GridStudy, "axes" | "skip">): readonly Cell[] {
  return Object.entries(axes).reduce<readonly Cell[]>(
    (cells, [axis, values]) =>
      cells.flatMap((cell) => Object.keys(values).map((value) => ({ ...cell, [axis]: value }))),
    [{}],
  ).filter((cell) => !skip.some((part) => isPart(part, cell)));
}

/**
 * A run of a cell.
 *
 * @param settings laid over the cell's own: what was chosen for it, or what a trial tries
 */
export function runOf(
  { name, study }: { readonly name: string; readonly study: GridStudy },
  { cell, seed, settings = {}, budget, measure, candidate }: {
    readonly cell: Cell;
    readonly seed: number;
    readonly settings?: Fields | undefined;
    readonly budget: number;
    readonly measure: Measure;
    readonly candidate?: string;
  },
): RunSpec {
  const own = Object.entries(cell).map(([axis, value]) => study.axes[axis]?.[value] ?? {});
  const quiet = { iterations: ENDLESS, checkpointEvery: 25, sampleEvery: 0 };
  const spend = { budget: { seconds: budget, of: study.compute } };
  const fields = deepMerge(quiet, study.base, ...own, settings, { seed, ...spend });
  const decides = { fields, measure };
  const digest = createHash("sha256").update(JSON.stringify(decides)).digest("hex").slice(0, 8);
  const words = [name, ...Object.values(cell), ...candidate === undefined ? [] : ["try", candidate]]
    .map((word) => word.toLowerCase().replaceAll(/[^a-z0-9.]+/g, "-")).join("-");
  return {
    id: `${words.slice(0, 64 - digest.length - 12)}-s${seed}-${digest}`,
    ...{ cell, seed, fields, budget, measure, config: configOf(fields, cell) },
    ...(candidate !== undefined && { candidate }),
  };
}

/** "DRTune, symmetry". */
export function cellName(cell: Cell): string {
  return Object.values(cell).join(", ") || "all";
}

function configOf(fields: Fields, cell: Cell): RunConfig {
  try {
    return parseRunConfig(stringify(fields), cellName(cell));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    // Lines of a text that nobody wrote say nothing.
    throw new UsageError(`Runs of ${error.message.replaceAll(/:\d+: /g, ": ")}`, { cause: error });
  }
}
