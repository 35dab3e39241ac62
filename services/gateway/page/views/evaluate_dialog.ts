import { events, json, runPath } from "../api.ts";
import { openWorkDialog } from "../dialog.ts";
import { button, field, h, replace, say } from "../dom.ts";
import { servedRewards } from "../form/served_rewards.ts";
import { duration } from "../format.ts";
import { linesOf } from "../lines.ts";
import { saveFile } from "../save_file.ts";
import type { EvaluatedPair, EvaluationSummary, Run, RunConfig, Services } from "../types.ts";
import { checkpointSelect } from "./checkpoint_select.ts";
import { evaluationCsv, evaluationTable } from "./evaluation_table.ts";
import { betterByKey, RewardChecks } from "./reward_checks.ts";

/** Far from the seeds that are drawn while training. */
const FIRST_SEED = 1000;

/** Lets somebody measure rewards with and without a run's LoRA, on the same prompts and seeds, and see how far it is. */
export function openEvaluateDialog(run: Run, services: Services | undefined): void {
  const leaving = new AbortController();
  const prompts = h("textarea", {
    rows: 3,
    placeholder: "One prompt a line; none: the held-out prompts",
  });
  const step = checkpointSelect(run, { withoutLora: false });
  const seed = h("input", { type: "number", min: 0, max: 2 ** 32 - 1, value: FIRST_SEED });
  const each = h("input", { type: "number", min: 1, max: 4096, value: 3 });
  const rewards = new RewardChecks("Rewards to measure", {
    served: servedRewards(services, []),
    terms: run.rewards,
  });
  const remark = h("p", { class: "alarm", hidden: true });
  // What is listed of runs has no prompts.
  json<{ run: Run }>(runPath(run.id), { signal: leaving.signal }).then(({ run }) => {
    remark.hidden = !heldOutAreTrained(run.config);
    say(
      remark,
      "This run trains on its held-out prompts, which flatters it: better write others above.",
    );
  }, () => {});
  const bar = h("progress", { "aria-label": "Evaluation", hidden: true });
  const status = h("p", { class: "sub", role: "status" });
  const place = h("div", {});
  const measure = async (signal: AbortSignal) => {
    const lines = linesOf(prompts.value);
    const judges = rewards.chosen;
    const total = (lines.length || run.config?.heldOutPrompts?.count || 0) * each.valueAsNumber;
    const pairs: EvaluatedPair[] = [];
    replace(place);
    bar.hidden = false;
    bar.removeAttribute("value");
    bar.max = total || 1;
    say(status, `Drawing ${total} images without the LoRA first, then with it…`);
    let began = performance.now();
    try {
      const body = {
        step: Number(step.value),
        seed: seed.valueAsNumber,
        imagesPerPrompt: each.valueAsNumber,
        ...(lines.length > 0 && { prompts: { list: { prompts: lines } } }),
        // None chosen: the run's mixture.
        rewards: judges.map(({ key, term }) => ({ ...term, name: key })),
      };
      for await (const { event, data } of events(runPath(run.id, "/evaluate"), { body, signal })) {
        if (event === "pair" && isPair(data)) {
          if (pairs.length === 0) began = performance.now();
          pairs.push(data);
          bar.value = pairs.length;
          const left = (performance.now() - began) / pairs.length * (total - pairs.length) / 1000;
          const time = pairs.length > 1 && left > 1 ? `, about ${duration(left)} left` : "";
          say(status, `${pairs.length} of ${Math.max(total, pairs.length)} pairs${time}`);
        } else if (event === "summary" && isSummary(data)) {
          say(status, `${data.pairs} pairs at equal prompts and seeds, checkpoint ${data.step}`);
          const save = () =>
            saveFile(
              new Blob([evaluationCsv(pairs)], { type: "text/csv" }),
              `${run.id}-${data.step}-evaluation.csv`,
            );
          replace(
            place,
            evaluationTable(data, betterByKey(judges)),
            h("div", { class: "actions" }, button("Save every pair as CSV", save)),
          );
          // On a phone it is below what is seen.
          place.scrollIntoView({ block: "nearest" });
        }
      }
    } finally {
      // An aborted evaluation leaves the bar to the one that was begun in its place.
      if (!signal.aborted) bar.hidden = true;
    }
  };
  openWorkDialog({
    title: `Evaluate ${run.id}`,
    body: [
      h(
        "p",
        {},
        "Every prompt is drawn with the checkpoint’s LoRA and without, at the same seeds; rewards are compared pair by pair.",
      ),
      field("Prompts", prompts),
      remark,
      h(
        "div",
        { class: "row" },
        field("Checkpoint", step),
        field("First seed", seed),
        field("Images per prompt", each),
      ),
      rewards.element,
    ],
    action: "Measure",
    work: measure,
    leaving,
    status,
    below: [bar, status, place],
  });
}

/** Whether all prompts that a run holds out are among those it trains on, as where its configuration names none. */
function heldOutAreTrained(config: RunConfig | undefined): boolean {
  const heldOut = config?.heldOutPrompts?.list?.prompts ?? [];
  const trained = new Set(config?.prompts?.list?.prompts);
  return heldOut.length > 0 && heldOut.every((prompt) => trained.has(prompt));
}

function isPair(data: unknown): data is EvaluatedPair {
  return typeof data === "object" && data !== null && "before" in data && "after" in data;
}

function isSummary(data: unknown): data is EvaluationSummary {
  return typeof data === "object" && data !== null && "pairs" in data && "rewards" in data;
}
