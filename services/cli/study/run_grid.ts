import { createHash } from "node:crypto";
import { join } from "node:path";
import { UsageError } from "../command.ts";
import type { Judges } from "../judge/judges.ts";
import { duration, Progress } from "../progress.ts";
import { type Choice, chooseSettings, type Trial } from "./choose_settings.ts";
import { isFields } from "./deep_merge.ts";
import { measureRun } from "./measure_run.ts";
import { cellName, cellsOf, isPart, runOf, type RunSpec } from "./grid_runs.ts";
import { readPrompts } from "./read_prompts.ts";
import type { Baseline, RunResult, StudyFolder } from "./study_folder.ts";
import type { GridStudy, Measure } from "./study_schema.ts";
import type { StudyStack } from "./study_stack.ts";
import { trainRun } from "./train_run.ts";

/** A run that is done, beside the same pictures without LoRA. */
export interface Measured {
  readonly spec: RunSpec;
  readonly result: RunResult;
  readonly baseline: Baseline;
}

/** What a grid came to. */
export interface GridOutcome {
  readonly runs: readonly Measured[];
  readonly choices: readonly Choice[];
}

/** What a grid is run with. */
export interface GridContext {
  readonly name: string;
  readonly study: GridStudy;
  readonly folder: StudyFolder;
  readonly stack: StudyStack;
  readonly judges: Judges;
  /** Folder of models and prompts. */
  readonly models: string;
  readonly signal: AbortSignal;
}

/** Does every run of a grid that is not done: first those by which settings are chosen, then the study's own. */
export async function runGrid(context: GridContext): Promise<GridOutcome> {
  const progress = new GridProgress();
  const trials = trialRuns(context);
  const own = gridRuns(context, []);
  // A missing file is told before anything is trained.
  for (const spec of [...trials, ...own]) await promptsOf(spec, context);
  progress.expect([...trials, ...own]);
  const tried = await runAll(trials, { ...context, progress });
  const choices = chooseSettings(
    tried.map((run) => trialOf(run, context)),
    context.study.choose?.per ?? [],
  );
  for (const { of, candidate } of choices) progress.say(`${cellName(of)}: ${candidate} is chosen`);
  const runs = await runAll(gridRuns(context, choices), { ...context, progress });
  return { runs, choices };
}

/** The reward that a run trains: the first of its mixture. */
export function targetOf({ config }: Pick<RunSpec, "config">): string {
  const [term] = config.rewards;
  return term === undefined ? "" : term.name || term.reward;
}

/** Names of all rewards that a study needs. */
export function rewardNames(
  context: Pick<GridContext, "name" | "study">,
): readonly string[] {
  const names = gridRuns(context, []).flatMap(({ config }) =>
    [...config.rewards, ...config.panel?.rewards ?? []]
      .filter(({ endpoint }) => endpoint === "").map((term) => term.name || term.reward)
  );
  return [...new Set([...names, ...context.study.judges])];
}

/** The study's own runs, seed by seed, so that a study that is interrupted has all cells at its first seeds. */
export function gridRuns(
  { name, study }: Pick<GridContext, "name" | "study">,
  choices: readonly Choice[],
): readonly RunSpec[] {
  const { choose, budget, measure } = study;
  return study.seeds.flatMap((seed) =>
    cellsOf(study).map((cell) => {
      const candidate = choices.find(({ of }) => isPart(of, cell))?.candidate;
      const settings = candidate === undefined ? undefined : choose?.candidates[candidate];
      return runOf({ name, study }, { cell, seed, settings, budget, measure });
    })
  );
}

function trialRuns({ name, study }: Pick<GridContext, "name" | "study">): readonly RunSpec[] {
  const { choose } = study;
  if (choose === undefined) return [];
  const cells = cellsOf(study).filter((cell) =>
    Object.entries(choose.on).every(([axis, values]) => values.includes(cell[axis] ?? ""))
  );
  if (cells.length === 0) throw new UsageError("choose.on names no cell of this study");
  const { measure } = choose;
  const budget = study.budget * choose.share;
  return choose.seeds.flatMap((seed) =>
    cells.flatMap((cell) =>
      Object.entries(choose.candidates).map(([candidate, settings]) =>
        runOf({ name, study }, { cell, seed, settings, budget, measure, candidate })
      )
    )
  );
}

function trialOf({ spec, result, baseline }: Measured, { judges }: GridContext): Trial {
  const target = targetOf(spec);
  return {
    ...{ cell: spec.cell, candidate: spec.candidate ?? "", target },
    ...{ isUp: judges.isUp(target), before: baseline.pictures, after: result.pictures },
  };
}

type RunningContext = GridContext & { readonly progress: GridProgress };

async function runAll(
  specs: readonly RunSpec[],
  context: RunningContext,
): Promise<readonly Measured[]> {
  const measured: Measured[] = [];
  for (const spec of specs) measured.push(await runOne(spec, context));
  return measured;
}

async function runOne(spec: RunSpec, context: RunningContext): Promise<Measured> {
  const { folder, stack: { trainer }, study, judges, progress, signal } = context;
  const done = await folder.result(spec.id);
  const known = done && await folder.baseline(baselineKey(done.config, spec.measure));
  if (done !== undefined && known !== undefined) {
    progress.passOver(spec);
    return { spec, result: done, baseline: known };
  }
  const begun = performance.now();
  progress.begin(spec);
  const trained = await trainRun(trainer, {
    ...{ spec, compute: study.compute, signal },
    onStep: (seconds) => progress.spend(seconds),
  });
  const prompts = await promptsOf(spec, context);
  const drawing = { ...spec.measure, runId: spec.id, prompts, judges, signal };
  const key = baselineKey(trained.config, spec.measure);
  let baseline = await folder.baseline(key);
  if (baseline === undefined) {
    const { pictures, shown } = await measureRun(trainer, { ...drawing, step: 0 });
    baseline = { key, pictures };
    await folder.writeBaseline(baseline, shown);
  }
  const { pictures, shown } = await measureRun(trainer, drawing);
  const { id, cell, seed, budget, candidate } = spec;
  const result: RunResult = {
    ...{ id, cell, seed, budget, ...(candidate !== undefined && { candidate }) },
    ...trained,
    allSeconds: (performance.now() - begun) / 1000,
    pictures,
  };
  await folder.writeResult(result, shown);
  progress.finish(spec, result.allSeconds);
  return { spec, result, baseline };
}

/** Everything that decides what a model draws without a LoRA. */
function baselineKey(config: unknown, measure: Measure): string {
  const { model, sampler, guidance, latentHeight, latentWidth, precision, heldOutPrompts } =
    isFields(config) ? config : {};
  const size = { latentHeight, latentWidth };
  const decides = { model, sampler, guidance, ...size, precision, heldOutPrompts, measure };
  return createHash("sha256").update(JSON.stringify(decides)).digest("hex").slice(0, 12);
}

/** Prompts of the pictures by which a run is judged: the study's, or those that the run holds out. */
async function promptsOf(
  { id, measure, config }: RunSpec,
  { models }: Pick<GridContext, "models">,
): Promise<readonly string[]> {
  const source = config.heldOutPrompts?.source;
  if (measure.prompts === undefined && source?.case === "list") return source.value.prompts;
  const file = measure.prompts ?? (source?.case === "file" ? source.value : undefined);
  if (file === undefined) {
    throw new UsageError(`Neither measure.prompts nor heldOutPrompts says what ${id} is judged by`);
  }
  return await readPrompts(join(models, file));
}

/** How far a grid is, and how long the rest takes at the pace of the runs that were done here. */
class GridProgress {
  readonly #progress = new Progress();
  #total = 0;
  #done = 0;
  /** Seconds of compute of the runs that are left, the present one among them. */
  #left = 0;
  /** Of the runs done here: seconds by the clock, and their budgets. */
  #clock = 0;
  #budgets = 0;
  #present: RunSpec | undefined;

  expect(specs: readonly RunSpec[]): void {
    this.#total = specs.length;
    this.#left = specs.reduce((sum, { budget }) => sum + budget, 0);
  }

  begin(spec: RunSpec): void {
    this.#present = spec;
    this.spend(0);
  }

  spend(seconds: number): void {
    const spec = this.#present;
    if (spec === undefined) return;
    const left = Math.max(0, this.#left - Math.min(seconds, spec.budget));
    const pace = this.#budgets > 0 ? this.#clock / this.#budgets : undefined;
    const trial = spec.candidate === undefined ? "" : `, trying ${spec.candidate}`;
    this.#progress.update({
      ...{ done: this.#done, total: this.#total },
      note: `${cellName(spec.cell)}${trial}, seed ${spec.seed}: ${seconds.toFixed(0)} of ${
        spec.budget.toFixed(0)
      } s of compute`,
      ...(pace !== undefined && { secondsLeft: pace * left }),
    });
  }

  passOver({ budget }: RunSpec): void {
    this.#done++;
    this.#left -= budget;
  }

  finish(spec: RunSpec, clock: number): void {
    this.passOver(spec);
    this.#clock += clock;
    this.#budgets += spec.budget;
    this.#present = undefined;
    this.say(`${this.#done}/${this.#total} ${spec.id} in ${duration(clock)}`);
  }

  say(text: string): void {
    this.#progress.say(text);
  }
}
