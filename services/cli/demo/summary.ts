import type { EvaluationSummary } from "../../../proto/mod.ts";
import { DEMO_MODELS, type DemoModel, type Scenario } from "./scenarios.ts";

/** Facts for a demo's summary. */
export interface DemoFacts {
  readonly scenario: Scenario;
  readonly model: DemoModel;
  readonly summary: EvaluationSummary;
  readonly prompts: number;
  readonly seeds: number;
  readonly iterations: number;
  readonly trainingSeconds: number;
  readonly files: Readonly<Record<string, string>>;
}

/** True where the held-out reward moved the right way by more than its 95 % confidence interval. */
export function improved(
  { scenario: { target }, summary }: Pick<DemoFacts, "scenario" | "summary">,
): boolean {
  const found = summary.rewards[target.name];
  if (found === undefined) return false;
  return target.direction === "down" ? found.upper < 0 : found.lower > 0;
}

/** A demo's result in Markdown. */
export function summaryText(facts: DemoFacts): string {
  const { scenario, model, summary, prompts, seeds, iterations, trainingSeconds, files } = facts;
  const rows = Object.entries(summary.rewards).map(([name, r]) => {
    const cells = [r.before, r.after, r.difference].map((v) => v.toFixed(3));
    const better = r.smallerIsBetter ? "lower" : "higher";
    return `| ${name} (${better} is better) | ${cells.join(" | ")} | ${r.lower.toFixed(3)} to ${
      r.upper.toFixed(3)
    } |`;
  });
  return [
    `# ${scenario.title}`,
    "",
    scenario.promise,
    "",
    `${iterations} iterations of DRTune on ${DEMO_MODELS[model]}, in ${
      trainingSeconds.toFixed(0)
    } s. Measured on ${prompts} prompts, ${seeds} seeds each, the same ` +
    `${summary.pairs} before and after: neither was trained on, nor used to choose the settings.`,
    "",
    "| reward | before | after | change | 95 % confidence interval |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    `${scenario.target.name} is to go ${scenario.target.direction}: ${
      improved(facts) ? "it did, beyond chance" : "it did not, or no further than by chance"
    }.`,
    "",
    ...Object.entries(files).map(([what, file]) => `- ${what}: \`${file}\``),
    "",
  ].join("\n");
}
