import { h, replace } from "../dom.ts";
import { ago, dateTime, duration, number, percent } from "../format.ts";
import type { RunHistory } from "../run_history.ts";
import { tile } from "../tile.ts";
import type { Run, StepEvent } from "../types.ts";
import { isGoing } from "./state_chip.ts";

/** Steps that a speed is the mean of. */
const SPEED_STEPS = 20;

/** How it goes, in numbers. */
export function runTiles(run: Run, history: RunHistory): HTMLElement[] {
  const { step, iterations, latest, createdAt, endedAt, state, config } = run;
  const known = history.steps.length > 0 ? history.steps : latest?.step ? [latest] : [];
  const recent = known.slice(-SPEED_STEPS).map(({ seconds }) => seconds["total"] ?? NaN);
  const seconds = recent.reduce((a, b) => a + b, 0) / recent.length;
  const images = (config?.batch?.size ?? 1) * (config?.batch?.accumulation ?? 1);
  const going = isGoing(state);
  const elapsed = (Date.parse(endedAt ?? "") || Date.now()) - Date.parse(createdAt ?? "");
  const newest = run.checkpoints.at(-1);
  const asked = history.saves.at(-1)?.step ?? -1;
  return [
    tile(
      "Step",
      {
        value: `${step} of ${iterations}`,
        sub: h("progress", {
          max: iterations || 1,
          value: step,
          "aria-label": percent(step / (iterations || 1)),
        }),
      },
    ),
    tile(
      "Speed",
      Number.isFinite(seconds)
        ? {
          value: `${duration(seconds)} / step`,
          sub: `${number(images / seconds, 3)} images / s`,
        }
        : { value: "–" },
    ),
    going
      ? tile(
        "Time left",
        {
          value: latest?.step ? duration(latest.secondsLeft) : "–",
          sub: `started ${ago(createdAt)}`,
        },
      )
      : tile("Took", { value: duration(elapsed / 1000), sub: `ended ${dateTime(endedAt)}` }),
    tile(
      "Checkpoint",
      {
        value: newest === undefined ? "none yet" : `step ${newest}`,
        sub: run.choice !== undefined
          ? `chose step ${run.choice.chosen} at scale ${number(run.choice.loraScale, 3)}`
          : going && asked > (newest ?? -1)
          ? `writing step ${asked}…`
          : newest === undefined
          ? ""
          : `${run.checkpoints.length} in all`,
      },
    ),
  ];
}

const PHASES = ["sample", "decode", "reward", "gradient", "update"];

/** Where the time of the last step went. */
export function drawPhases(element: HTMLElement, event: StepEvent | undefined): void {
  element.hidden = event === undefined;
  if (event === undefined) return;
  const known = [...new Set([...PHASES, ...Object.keys(event.seconds)])]
    .filter((name) => name !== "total" && (event.seconds[name] ?? 0) > 0);
  const sum = known.reduce((total, name) => total + (event.seconds[name] ?? 0), 0) || 1;
  const bar = h("div", { class: "phase-bar", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend" });
  for (const [i, name] of known.entries()) {
    const seconds = event.seconds[name] ?? 0;
    const part = h("span", { class: `hue-${i % 6}` });
    part.style.flexGrow = String(seconds / sum);
    bar.append(part);
    legend.append(
      h(
        "li",
        { class: `hue-${i % 6}` },
        h("span", { class: "swatch" }),
        `${name} `,
        h("b", {}, duration(seconds)),
      ),
    );
  }
  replace(element, bar, legend);
}
