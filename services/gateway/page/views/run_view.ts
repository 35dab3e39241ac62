import { ApiError, Images, json, runPath } from "../api.ts";
import { configText } from "../config_text.ts";
import { Cursor } from "../cursor.ts";
import { faultText } from "../dialog.ts";
import { h, onceAFrame, replace, say } from "../dom.ts";
import { betterOf } from "../form/served_rewards.ts";
import { follow } from "../follow.ts";
import { stateName } from "../format.ts";
import { RunHistory } from "../run_history.ts";
import { SampleGallery } from "../sample_gallery.ts";
import type { Run, Services } from "../types.ts";
import { EventLog } from "./event_log.ts";
import { PanelCharts } from "./panel_charts.ts";
import { PerImageTable } from "./per_image_table.ts";
import { RunActions } from "./run_actions.ts";
import { RunCharts } from "./run_charts.ts";
import { drawPhases, runTiles } from "./run_facts.ts";
import { drawMixture } from "./run_tables.ts";
import { isGoing, stateChip } from "./state_chip.ts";
import type { View, ViewContext } from "./view.ts";

/** One run: how it goes, its curves, samples, per-image rewards and configuration. */
export function runView({ overview, params, signal }: ViewContext): View {
  const [id = ""] = params;
  const history = new RunHistory();
  const cursor = new Cursor();
  const images = new Images(signal);
  const gallery = new SampleGallery(id, images);
  const state = h("span", { role: "status" });
  const reason = h("p", { class: "reason" });
  const head = h("div", { class: "page-head" }, h("h1", {}, id), state, reason);
  const actions = new RunActions(id, { run: () => run, services: () => overview.services });
  const notice = h("p", { class: "fault", role: "status", hidden: true });
  const tiles = h("dl", { class: "tiles" });
  const phases = h("div", { class: "phases" });
  const charts = new RunCharts(history, { cursor, signal });
  const panel = new PanelCharts(history, { cursor, signal });
  const perImage = new PerImageTable(id, images);
  const mixture = h("div", {});
  const log = new EventLog(id);
  const config = h("pre", { class: "config" });
  let run: Run | undefined;
  let watching = false;

  const loading = h("p", { class: "empty notice", role: "status" }, "Loading the run’s history…");
  const told = h(
    "div",
    {},
    section("Curves", charts.controls, charts.element),
    panel.element,
    section("Samples", gallery.element),
    section("Rewards of each image", perImage.element),
  );
  const sections = h(
    "div",
    { class: "run", hidden: true },
    tiles,
    phases,
    loading,
    told,
    section("Reward mixture", mixture),
    h("details", {}, h("summary", {}, "What happened"), log.element),
    h("details", {}, h("summary", {}, "Configuration"), config),
  );

  const draw = onceAFrame(() => {
    if (run === undefined) return;
    sections.hidden = false;
    // "No step yet" would be wrong of a run whose events are on their way.
    loading.hidden = run.step === 0 || history.steps.length > 0;
    told.hidden = !loading.hidden;
    actions.element.hidden = false;
    if (state.textContent !== stateName(run.state)) replace(state, stateChip(run.state));
    say(reason, run.reason);
    actions.update(run);
    replace(tiles, ...runTiles(run, history));
    drawPhases(phases, history.steps.at(-1) ?? run.latest);
    charts.update(run, directions(overview.services));
    panel.update(run);
    gallery.update(history, Number(run.config?.["sampleEvery"] ?? 0));
    perImage.update(history, cursor.step);
    drawMixture(mixture, run, history);
    log.update(history);
    const text = configText(run.config ?? {});
    if (config.textContent !== text) replace(config, text);
  });
  cursor.addEventListener("change", () => perImage.update(history, cursor.step), { signal });

  const take = (fresh: Run | undefined) => {
    if (fresh === run) return;
    if (fresh === undefined) return;
    // Started anew under its name: what is shown is of the one before.
    if (run !== undefined && fresh.createdAt !== run.createdAt) return reload();
    run = fresh;
    // One that was started or resumed after its events had ended.
    if (!watching && isGoing(run.state)) watch();
    draw();
  };
  const fault = (error: unknown) => {
    notice.hidden = error === undefined;
    // The banner above says who does not answer, and why.
    const away = error instanceof ApiError && error.code === "UNAVAILABLE";
    notice.className = away ? "empty" : "fault";
    replace(notice, away ? "It goes on here as soon as the trainer answers." : faultText(error));
  };
  const watch = () => {
    watching = true;
    void follow(() => runPath(id, `/events?fromStep=${history.lastStep}`), {
      signal,
      onEvent: (event) => {
        history.take(event);
        draw();
      },
      onConnection: (connection, error) => {
        // The overview says so for all of the page when the server is away.
        fault(connection === "lost" && error instanceof ApiError ? error : undefined);
      },
    }).finally(() => watching = false);
  };

  watch();
  let listed = false;
  overview.addEventListener("change", () => {
    const fresh = overview.runs.get(id);
    // A trainer that is away has deleted nothing.
    if (listed && fresh === undefined && overview.services?.trainer.ready) return reload();
    listed ||= fresh !== undefined;
    take(fresh);
  }, { signal });
  take(overview.runs.get(id));
  if (run === undefined) {
    json<{ run: Run }>(runPath(id), { signal }).then(({ run }) => take(run), (error) => {
      if (!signal.aborted) fault(error);
    });
  }
  return {
    title: id,
    content: [
      h("a", { class: "back", href: "#/runs" }, "All runs"),
      h("div", { class: "run-head" }, head, actions.element),
      notice,
      sections,
    ],
  };
}

/** Shows the view of the address anew. */
function reload(): void {
  dispatchEvent(new Event("hashchange"));
}

/** Which way is better, by the address of a reward's server and its name there. */
function directions(services: Services | undefined): ReadonlyMap<string, string> {
  return new Map(
    (services?.rewards ?? []).flatMap(({ address, rewards = [] }) =>
      rewards.flatMap((reward, _, { length }) => {
        const [name, better] = [reward.name, betterOf(reward)];
        // A term that names no reward means the only one there is.
        return [...(length === 1 ? [""] : []), name].map((n) =>
          [`${address} ${n}`, better] as const
        );
      })
    ),
  );
}

function section(title: string, ...children: readonly (Node | string)[]): HTMLElement {
  return h("section", { "aria-label": title }, h("h2", {}, title), ...children);
}
