import { Images } from "../api.ts";
import { ComparedRun } from "../compare/compared_run.ts";
import { configDifferences } from "../compare/config_differences.ts";
import { finalTables } from "../compare/final_table.ts";
import { OverlayCharts } from "../compare/overlay_charts.ts";
import { RunPicker } from "../compare/run_picker.ts";
import { SampleRows } from "../compare/sample_rows.ts";
import { faultText } from "../dialog.ts";
import { h, onceAFrame, replace, say } from "../dom.ts";
import { betterOf, servedRewards } from "../form/served_rewards.ts";
import { plainTable } from "../plain_table.ts";
import type { View, ViewContext } from "./view.ts";

/** Runs that are read at a time: the browser's connections are also wanted for images. */
const AT_A_TIME = 2;

/** Any number of runs beside one another: curves, final rewards, configurations, samples. */
export function compareView({ overview, params, signal }: ViewContext): View {
  const runs = new Map<string, ComparedRun>();
  const charts = new OverlayCharts(signal);
  const samples = new SampleRows(new Images(signal));
  const tables = h("div", {});
  const differences = h("div", {});
  const status = h("p", { class: "sub", role: "status" });
  const fault = h("p", { class: "fault", role: "alert" });
  const blind = h("a", { class: "button", href: "#/judge" }, "Judge blind");
  const picker = new RunPicker(params, () => {
    // The address says what is compared, and the view stays.
    history.replaceState(null, "", `#/${["compare", ...picker.chosen].join("/")}`);
    refresh();
  });
  const body = h(
    "div",
    { class: "comparison", hidden: true },
    section("Curves", charts.element),
    section("Rewards at the end", tables),
    section("Differences of the configurations", differences),
    section("Samples side by side", samples.element),
  );

  const chosen = () => picker.chosen.map((id) => runs.get(id)).filter((run) => run !== undefined);
  const draw = onceAFrame(() => {
    const all = chosen();
    body.hidden = all.length === 0;
    blind.href = `#/judge/${all[0]?.run.id ?? ""}`;
    if (all.length === 0) {
      return say(status, overview.ready ? "Choose the runs to compare." : "Loading…");
    }
    const better = new Map(
      servedRewards(overview.services, []).flatMap(({ term, description }) =>
        description ? [[term.name, betterOf(description)] as const] : []
      ),
    );
    charts.update(all, better);
    samples.update(all);
    replace(tables, ...finalTables(all, better));
    drawDifferences(differences, all);
  });

  const queue = new Set<ComparedRun>();
  let reading = 0;
  const readNext = () => {
    const [next] = queue;
    if (next === undefined || reading >= AT_A_TIME || signal.aborted) {
      if (reading === 0) say(status, "");
      return;
    }
    queue.delete(next);
    reading++;
    say(status, `Reading ${next.run.id}…`);
    void next.read(signal, draw).catch((error) => {
      if (!signal.aborted) say(fault, `${next.run.id}: ${faultText(error)}`);
    }).finally(() => {
      reading--;
      draw();
      readNext();
    });
    readNext();
  };
  const refresh = () => {
    picker.update(overview.newestFirst);
    for (const id of picker.chosen) {
      const run = overview.runs.get(id);
      if (run === undefined) continue;
      const known = runs.get(id);
      // Started anew under its name, it is another run.
      const same = known?.run.createdAt === run.createdAt ? known : undefined;
      const compared = same ?? new ComparedRun(run);
      runs.set(id, compared);
      if (compared.take(run)) queue.add(compared);
    }
    readNext();
    draw();
  };
  overview.addEventListener("change", refresh, { signal });
  refresh();
  return {
    title: "Compare",
    content: [
      h("div", { class: "page-head" }, h("h1", {}, "Compare"), blind),
      picker.element,
      status,
      fault,
      body,
    ],
  };
}

function drawDifferences(element: HTMLElement, all: readonly ComparedRun[]): void {
  const found = configDifferences(all.map(({ run }) => run.config ?? {}));
  const text = JSON.stringify([all.map(({ run }) => run.id), found]);
  if (element.dataset["shown"] === text) return;
  element.dataset["shown"] = text;
  if (found.length === 0) {
    const told = all.length < 2 ? "Choose another run." : "Their configurations are the same.";
    return replace(element, h("p", { class: "empty" }, told));
  }
  replace(
    element,
    h(
      "div",
      { class: "scroll" },
      plainTable(["Field", ...all.map(({ run }) => run.id)], {
        rows: found.map(({ field, values }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row", class: "mono" }, field),
            ...values.map((value) => h("td", { class: "mono" }, value === "" ? "–" : value)),
          )
        ),
      }),
    ),
  );
}

function section(title: string, ...children: readonly Node[]): HTMLElement {
  return h("section", { "aria-label": title }, h("h2", {}, title), ...children);
}
