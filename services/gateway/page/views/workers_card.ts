import { json } from "../api.ts";
import { h, replace } from "../dom.ts";
import { number, shortDigest } from "../format.ts";
import { plainTable } from "../plain_table.ts";
import type { Worker, Workers } from "../types.ts";

/** Between two looks, in milliseconds. */
const EVERY_MS = 2000;
/** Chips of states, by the contract's names without their prefix. */
const CHIPS: Readonly<Record<string, string>> = {
  IDLE: "state-queued",
  LOADING: "state-queued",
  WORKING: "state-running",
  DRAINING: "state-stopping",
  UNFIT: "state-failed",
  ASIDE: "state-failed",
};
const HEADS = ["Worker", "State", "Run", "Jobs", "Failed", "Jobs a minute", "Hardware", "Models"];

/** The workers that compute for the trainer, kept up to date; nothing where there are none. */
export function workersCard(signal: AbortSignal): HTMLElement {
  const card = h("section", { class: "card wide", hidden: true });
  let shown = "";
  const look = async () => {
    // While the trainer is away the card says what was there.
    const answer = await json<Workers>("/v1/workers", { signal }).catch(() => undefined);
    if (signal.aborted) return;
    setTimeout(look, EVERY_MS);
    if (answer === undefined) return;
    const rows = answer.workers.map(cellsOf);
    const text = JSON.stringify(rows);
    if (text === shown) return;
    shown = text;
    card.hidden = rows.length === 0;
    replace(card, h("header", {}, h("h2", {}, "Workers")), table(answer.workers));
  };
  void look();
  return card;
}

function cellsOf(worker: Worker): readonly string[] {
  const seconds = Number(worker.secondsPerJob);
  return [
    worker.runId || "–",
    worker.jobsDone,
    worker.jobsFailed,
    seconds > 0 ? number(60 / seconds, 3) : "–",
    worker.hardware,
    worker.modelSha256.map(shortDigest).join(", ") || "–",
  ].map(String);
}

function table(workers: readonly Worker[]): HTMLElement {
  return h(
    "div",
    { class: "scroll" },
    plainTable(HEADS, { rows: workers.map(row), stacked: true }),
  );
}

function row(worker: Worker): HTMLElement {
  const state = worker.state.replace("WORKER_STATE_", "");
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, worker.name),
    h(
      "td",
      { "data-label": HEADS[1] },
      h(
        "span",
        { class: `chip ${CHIPS[state] ?? ""}` },
        h("span", { class: "dot" }),
        state.toLowerCase(),
      ),
      worker.reason !== "" && h("p", { class: "fault" }, worker.reason),
    ),
    ...cellsOf(worker).map((cell, i) =>
      h("td", { class: i > 0 && i < 4 ? "num" : "mono", "data-label": HEADS[i + 2] }, cell)
    ),
  );
}
