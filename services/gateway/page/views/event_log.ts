import { button, h, replace } from "../dom.ts";
import { dateTime, duration, number, shortDigest, stateName } from "../format.ts";
import type { RunHistory } from "../run_history.ts";
import { saveFile } from "../save_file.ts";
import type { StepEvent } from "../types.ts";
import { mixtureText } from "./mixture_text.ts";

/** Lines that are shown; all of them are in the file. */
const SHOWN = 300;

/** A line of the log. */
export interface LogLine {
  readonly step: number;
  readonly at: string | undefined;
  readonly text: string;
}

/** What happened in a run, the last first: swaps, checkpoints, states, alarms and if wanted every step. */
export class EventLog {
  readonly element: HTMLElement;
  readonly #runId: string;
  readonly #list = h("ol", { class: "log" });
  readonly #steps = h("input", { type: "checkbox", onchange: () => this.#draw() });
  readonly #more = h("p", { class: "sub" });
  #history: RunHistory | undefined;
  #shown = "";

  constructor(runId: string) {
    this.#runId = runId;
    this.element = h(
      "div",
      { class: "event-log" },
      h(
        "div",
        { class: "checks" },
        h("label", {}, this.#steps, "Every step"),
        button("Save as text", () => this.#save(), { class: "small" }),
      ),
      this.#list,
      this.#more,
    );
  }

  update(history: RunHistory): void {
    this.#history = history;
    this.#draw();
  }

  #draw(): void {
    if (this.#history === undefined) return;
    const lines = logLines(this.#history, { steps: this.#steps.checked });
    const shown = `${lines.length} ${this.#steps.checked}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    replace(
      this.#list,
      ...lines.slice(0, SHOWN).map(({ step, at, text }) =>
        h(
          "li",
          {},
          h("span", { class: "num" }, `step ${step}`),
          h("span", {}, text),
          h("time", { class: "sub" }, at === undefined ? "" : dateTime(at)),
        )
      ),
      lines.length === 0 && h("li", {}, "Nothing yet"),
    );
    replace(
      this.#more,
      lines.length > SHOWN && `The last ${SHOWN} of ${lines.length} lines; the file has all.`,
    );
  }

  #save(): void {
    if (this.#history === undefined) return;
    const lines = logLines(this.#history, { steps: true }).toReversed()
      .map(({ step, at, text }) => `${at ?? "-"}\tstep ${step}\t${text.replaceAll("\n", " ")}\n`);
    saveFile(new Blob(lines, { type: "text/plain" }), `${this.#runId}.log`);
  }
}

/** Everything that happened, the last first. */
export function logLines(
  history: RunHistory,
  { steps }: { readonly steps: boolean },
): LogLine[] {
  const line = ({ step, at }: { readonly step: number; readonly at?: string }, text: string) => ({
    step,
    at,
    text,
  });
  return [
    ...history.swaps.map((e) => line(e, `Rewards became ${mixtureText(e.rewards)}`)),
    ...history.saves.map((e) => line(e, "A checkpoint was asked for")),
    ...history.panels.filter(({ alarm }) => alarm !== "")
      .map((e) => line(e, `Alarm: ${e.alarm}`)),
    ...history.checkpoints.map((e) => line(e, "Checkpoint written")),
    ...history.damages.map((e) =>
      line(e, `Checkpoint damaged, moved to ${e.movedTo}: ${e.reason}`)
    ),
    ...history.digests.map((e) =>
      line(
        e,
        `${e.reward} answers with weights ${shortDigest(e.after)}, before ${shortDigest(e.before)}`,
      )
    ),
    ...history.states.map((e) =>
      line(e, [`Now ${stateName(e.state)}`, e.reason].filter((text) => text !== "").join(": "))
    ),
    ...(steps ? history.steps.map((e) => line(e, stepText(e))) : []),
  ].sort((a, b) => b.step - a.step || (b.at ?? "").localeCompare(a.at ?? ""));
}

function stepText({ loss, gradNorm, rewards, seconds }: StepEvent): string {
  const means = Object.entries(rewards)
    .map(([name, { mean }]) => `${name} ${number(Number(mean))}`);
  return [
    ...means,
    `loss ${number(Number(loss))}`,
    `gradient norm ${number(Number(gradNorm), 3)}`,
    duration(Number(seconds["total"] ?? NaN)),
  ].join(", ");
}
