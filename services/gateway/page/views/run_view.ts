import { ApiError, Images, json, request, runPath } from "../api.ts";
import { Cursor } from "../cursor.ts";
import { faultText, openDialog } from "../dialog.ts";
import { button, h, onceAFrame, replace } from "../dom.ts";
import { ago, dateTime, duration, number, percent, shortDigest, stateName } from "../format.ts";
import { follow } from "../follow.ts";
import { LineChart } from "../line_chart.ts";
import { RunHistory } from "../run_history.ts";
import { SampleGallery } from "../sample_gallery.ts";
import type { RewardTerm, Run, StepEvent } from "../types.ts";
import { openSampleDialog } from "./sample_dialog.ts";
import { isGoing, stateChip } from "./state_chip.ts";
import { openSwapDialog } from "./swap_dialog.ts";
import type { View, ViewContext } from "./view.ts";

const SMOOTHING_KEY = "drtune-smoothing";

/** Steps that a speed is the mean of. */
const SPEED_STEPS = 20;

/** One run: how it goes, its curves, samples, per-image rewards and configuration. */
export function runView({ overview, params, signal }: ViewContext): View {
  const [id = ""] = params;
  const history = new RunHistory();
  const cursor = new Cursor();
  const gallery = new SampleGallery(id, new Images(signal));
  const head = h("div", { class: "page-head" });
  const actions = new Actions(id, () => run);
  const notice = h("p", { class: "fault", role: "status", hidden: true });
  const tiles = h("dl", { class: "tiles" });
  const phases = h("div", { class: "phases" });
  const charts = new RunCharts({ history, cursor, signal });
  const perImage = h("div", {});
  const mixture = h("div", {});
  const log = h("ol", { class: "log" });
  const config = h("pre", { class: "config" });
  let run: Run | undefined;

  const sections = h(
    "div",
    { class: "run", hidden: true },
    tiles,
    phases,
    section("Curves", charts.controls, charts.element),
    section("Samples", gallery.element),
    section("Rewards of each image", perImage),
    section("Reward mixture", mixture),
    h("details", {}, h("summary", {}, "What happened"), log),
    h("details", {}, h("summary", {}, "Configuration"), config),
  );

  const draw = onceAFrame(() => {
    if (run === undefined) return;
    sections.hidden = false;
    const { state, reason, latest } = run;
    replace(
      head,
      h("h1", {}, id),
      stateChip(state),
      reason !== "" && h("p", { class: "reason" }, reason),
    );
    actions.update(run);
    replace(tiles, ...runTiles(run, history));
    drawPhases(phases, latest ?? history.steps.at(-1));
    charts.update(run);
    gallery.update(history, Number(run.config?.["sampleEvery"] ?? 0));
    drawPerImage(perImage, history, cursor.step);
    drawMixture(mixture, run, history);
    drawLog(log, history);
    const text = configText(run.config ?? {});
    if (config.textContent !== text) replace(config, text);
  });
  cursor.addEventListener("change", () => drawPerImage(perImage, history, cursor.step), { signal });

  const take = (fresh: Run | undefined) => {
    if (fresh === undefined || fresh === run) return;
    const resumed = run !== undefined && !isGoing(run.state) && isGoing(fresh.state);
    run = fresh;
    if (resumed) watch();
    draw();
  };
  const fault = (text: string) => {
    notice.hidden = text === "";
    replace(notice, text);
  };
  const watch = () =>
    void follow(() => runPath(id, `/events?fromStep=${history.lastStep}`), {
      signal,
      onEvent: (event) => {
        history.take(event);
        draw();
      },
      onConnection: (connection, error) => {
        // The overview says so for all of the page when the server is away.
        fault(connection === "lost" && error instanceof ApiError ? faultText(error) : "");
      },
    });

  overview.addEventListener("change", () => take(overview.runs.get(id)), { signal });
  take(overview.runs.get(id));
  if (run === undefined) {
    json<{ run: Run }>(runPath(id), { signal }).then(({ run }) => take(run), (error) => {
      if (!signal.aborted) fault(faultText(error));
    });
  }
  watch();
  replace(head, h("h1", {}, id));
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

function section(title: string, ...children: readonly (Node | string)[]): HTMLElement {
  return h("section", { "aria-label": title }, h("h2", {}, title), ...children);
}

/** Buttons for what a run's state allows. They stay, so that the focus does. */
class Actions {
  readonly element: HTMLElement;
  readonly #stop: HTMLButtonElement;
  readonly #resume: HTMLButtonElement;
  readonly #delete: HTMLButtonElement;
  readonly #download: HTMLButtonElement;
  readonly #fault = h("p", { class: "fault", role: "alert" });

  constructor(id: string, run: () => Run | undefined) {
    const act = (what: () => Promise<unknown>) => async () => {
      replace(this.#fault);
      try {
        await what();
      } catch (error) {
        replace(this.#fault, faultText(error));
      }
    };
    const open = (dialog: (run: Run) => void) => () => {
      const now = run();
      if (now) dialog(now);
    };
    this.#stop = button("Stop", act(() => request(runPath(id, "/stop"), { method: "POST" })));
    this.#resume = button("Resume", open(openResumeDialog));
    this.#delete = button("Delete", open(openDeleteDialog));
    this.#download = button("Download LoRA", act(() => download(id)));
    this.element = h(
      "div",
      { class: "run-actions" },
      this.#stop,
      this.#resume,
      button("Change rewards", open(openSwapDialog)),
      button("Draw images", open(openSampleDialog)),
      this.#download,
      h("a", { class: "button", href: `#/compare/${id}` }, "Compare"),
      this.#delete,
      this.#fault,
    );
  }

  update({ state, checkpoints }: Run): void {
    const going = isGoing(state);
    this.#stop.hidden = !going;
    this.#stop.disabled = state === "RUN_STATE_STOPPING";
    this.#resume.hidden = going;
    this.#delete.hidden = going;
    this.#download.hidden = checkpoints.length === 0;
  }
}

/** Fetched with the token, then handed over as a file. */
async function download(id: string): Promise<void> {
  const response = await request(runPath(id, "/lora"));
  const disposition = response.headers.get("content-disposition") ?? "";
  const name = /filename="([^"]+)"/.exec(disposition)?.[1] ?? "lora.safetensors";
  const url = URL.createObjectURL(await response.blob());
  h("a", { href: url, download: `${id}-${name}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function openResumeDialog({ id, step, iterations, state }: Run): void {
  const input = h("input", { type: "number", min: step, step: 1, value: iterations });
  const done = state === "RUN_STATE_FINISHED";
  openDialog({
    title: `Resume ${id}`,
    body: [
      h("p", {}, done ? "All steps are done: give it more." : `It continues after step ${step}.`),
      h("label", { class: "field" }, h("span", { class: "field-label" }, "Steps in all"), input),
    ],
    action: "Resume",
    act: async () => {
      await request(runPath(id, "/resume"), { body: { iterations: input.valueAsNumber } });
    },
  });
}

function openDeleteDialog({ id, checkpoints }: Run): void {
  openDialog({
    title: `Delete ${id}?`,
    body: [
      h(
        "p",
        {},
        `Its folder goes, with ${checkpoints.length} checkpoints and all samples. There is no way back.`,
      ),
    ],
    action: "Delete",
    danger: true,
    act: async () => {
      await request(runPath(id), { method: "DELETE" });
      location.hash = "#/runs";
    },
  });
}

/** How it goes, in numbers. */
function runTiles(run: Run, history: RunHistory): HTMLElement[] {
  const { step, iterations, latest, createdAt, endedAt, state, config } = run;
  const recent = history.steps.slice(-SPEED_STEPS).map(({ seconds }) => seconds["total"] ?? NaN);
  const seconds = recent.reduce((a, b) => a + b, 0) / recent.length;
  const images = (config?.batch?.size ?? 1) * (config?.batch?.accumulation ?? 1);
  const going = isGoing(state);
  const elapsed = (Date.parse(endedAt ?? "") || Date.now()) - Date.parse(createdAt ?? "");
  const tile = (label: string, value: string, sub: Node | string = "") =>
    h(
      "div",
      { class: "tile" },
      h("dt", {}, label),
      h("dd", {}, value),
      h("dd", { class: "sub" }, sub),
    );
  return [
    tile(
      "Step",
      `${step} of ${iterations}`,
      h("progress", {
        max: iterations || 1,
        value: step,
        "aria-label": percent(step / (iterations || 1)),
      }),
    ),
    tile(
      "Speed",
      Number.isFinite(seconds) ? `${duration(seconds)} / step` : "–",
      Number.isFinite(seconds) ? `${number(images / seconds, 3)} images / s` : "",
    ),
    going
      ? tile("Time left", latest ? duration(latest.secondsLeft) : "–", `started ${ago(createdAt)}`)
      : tile("Took", duration(elapsed / 1000), `ended ${dateTime(endedAt)}`),
    tile(
      "Checkpoint",
      run.checkpoints.length > 0 ? `step ${run.checkpoints.at(-1)}` : "none yet",
      run.checkpoints.length > 0 ? `${run.checkpoints.length} in all` : "",
    ),
  ];
}

const PHASES = ["sample", "decode", "reward", "gradient", "update"];

/** Where the time of the last step went. */
function drawPhases(element: HTMLElement, event: StepEvent | undefined): void {
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

/** One chart for each reward, the loss and the gradient norm. */
class RunCharts {
  readonly element = h("div", { class: "charts" });
  readonly controls: HTMLElement;
  readonly #charts = new Map<string, LineChart>();
  readonly #history: RunHistory;
  readonly #cursor: Cursor;
  readonly #signal: AbortSignal;
  #smoothing = Number(localStorage.getItem(SMOOTHING_KEY) ?? 0.6);
  #run: Run | undefined;

  constructor(
    { history, cursor, signal }: {
      readonly history: RunHistory;
      readonly cursor: Cursor;
      readonly signal: AbortSignal;
    },
  ) {
    [this.#history, this.#cursor, this.#signal] = [history, cursor, signal];
    const value = h("output", { class: "num" });
    const show = () => replace(value, this.#smoothing.toFixed(2));
    const slider = h("input", {
      type: "range",
      min: 0,
      max: 0.99,
      step: 0.01,
      value: this.#smoothing,
      oninput: () => {
        this.#smoothing = slider.valueAsNumber;
        localStorage.setItem(SMOOTHING_KEY, String(this.#smoothing));
        show();
        if (this.#run) this.update(this.#run);
      },
    });
    show();
    this.controls = h("label", { class: "inline" }, h("span", {}, "Smoothing"), slider, value);
  }

  update(run: Run): void {
    this.#run = run;
    const weights = new Map(run.rewards.map(({ name, weight }) => [name, weight ?? 1]));
    for (const name of this.#history.rewardNames) {
      const weight = weights.get(name);
      const chart = this.#draw(name, "reward", ({ rewards }) => rewards[name]?.mean);
      chart.note = weight === undefined ? "not in the mixture now" : `weight ${number(weight, 3)}`;
    }
    this.#draw("loss", "", ({ loss }) => loss);
    this.#draw("gradient norm", "L2, before clipping", ({ gradNorm }) => gradNorm);
  }

  #draw(
    title: string,
    unit: string,
    value: (event: StepEvent) => number | string | undefined,
  ): LineChart {
    // Rewards keep the colours they came with; loss and gradient norm are neutral.
    const isReward = unit === "reward";
    const key = `${unit} ${title}`;
    const chart = this.#charts.get(key) ??
      new LineChart({
        title,
        unit: isReward ? "" : unit,
        hue: isReward ? [...this.#history.rewardNames].indexOf(title) : 5,
        cursor: this.#cursor,
        signal: this.#signal,
      });
    if (!this.#charts.has(key)) {
      this.#charts.set(key, chart);
      // A reward that is swapped in stands beside the others.
      const order = [...this.#charts.keys()].sort((a, b) =>
        Number(b.startsWith("reward ")) - Number(a.startsWith("reward "))
      );
      replace(this.element, ...order.map((name) => this.#charts.get(name)?.element));
    }
    chart.update({
      points: this.#history.curve(value),
      smoothing: this.#smoothing,
      lastStep: isGoing(this.#run?.state ?? "")
        ? this.#run?.iterations ?? 1
        : this.#history.lastStep,
      markers: this.#history.swaps.map(({ step, rewards }) => ({
        step,
        label: `After step ${step} the rewards became ${mixtureText(rewards)}`,
      })),
    });
    return chart;
  }
}

function mixtureText(rewards: readonly RewardTerm[]): string {
  return rewards.map(({ name, weight }) => `${name} × ${number(weight ?? 1, 3)}`).join(", ");
}

/** Each image of a step: its prompt and its rewards, as bars within the step's range. */
function drawPerImage(element: HTMLElement, history: RunHistory, step: number | undefined): void {
  const event = history.at(step ?? Infinity);
  if (event === undefined) return replace(element, h("p", { class: "empty" }, "No step yet."));
  const names = Object.keys(event.rewards);
  const values = new Map(
    names.map((name) => [name, (event.rewards[name]?.perImage ?? []).map(Number)]),
  );
  const count = Math.max(0, ...[...values.values()].map((list) => list.length));
  const bars = new Map(names.map((name) => {
    const list = (values.get(name) ?? []).filter(Number.isFinite);
    const [low, high] = [Math.min(0, ...list), Math.max(0, ...list)];
    return [name, { low, width: high - low || 1 }];
  }));
  const hues = [...history.rewardNames];
  replace(
    element,
    h("p", { class: "sub" }, `Step ${event.step}`, step === undefined ? ", the last one" : ""),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "per-image" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Prompt"),
            ...names.map((name) => h("th", { scope: "col" }, name)),
          ),
        ),
        h(
          "tbody",
          {},
          ...Array.from({ length: count }, (_, i) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, event.prompts[i] ?? `image ${i + 1}`),
              ...names.map((name) => {
                const value = values.get(name)?.[i] ?? NaN;
                const { low, width } = bars.get(name) ?? { low: 0, width: 1 };
                const bar = h("span", { class: `bar hue-${hues.indexOf(name) % 6}` });
                bar.style.setProperty("--from", `${100 * (Math.min(0, value) - low) / width}%`);
                bar.style.setProperty("--size", `${100 * Math.abs(value) / width}%`);
                return h("td", {}, h("span", { class: "num" }, number(value, 3)), bar);
              }),
            )),
        ),
      ),
    ),
  );
}

/** The rewards that are trained now, and the weights that answered last. */
function drawMixture(element: HTMLElement, run: Run, history: RunHistory): void {
  const last = history.steps.at(-1);
  const cells = run.rewards.map(({ name, endpoint, weight, expectedDigest }) => {
    const digest = last?.rewards[name]?.digest ?? "";
    return [
      name,
      number(weight ?? 1, 3),
      endpoint,
      digest === "" ? "–" : shortDigest(digest),
      expectedDigest ? shortDigest(expectedDigest) : "any",
    ];
  });
  const text = JSON.stringify(cells);
  if (element.dataset["shown"] === text) return;
  element.dataset["shown"] = text;
  const heads = ["Reward", "Weight", "Service", "Weights digest", "Expected"];
  replace(
    element,
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain" },
        h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)))),
        h(
          "tbody",
          {},
          ...cells.map(([name = "", ...rest]) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, name),
              ...rest.map((cell, i) => h("td", { class: i === 0 ? "num" : "mono" }, cell)),
            )
          ),
        ),
      ),
    ),
  );
}

function drawLog(element: HTMLElement, history: RunHistory): void {
  const lines = [
    ...history.swaps.map(({ step, at, rewards }) => ({
      step,
      at,
      text: `Rewards became ${mixtureText(rewards)}`,
    })),
    ...history.checkpoints.map(({ step, at }) => ({ step, at, text: "Checkpoint written" })),
    ...history.states.map(({ step, at, state, reason }) => ({
      step,
      at,
      text: [`Now ${stateName(state)}`, reason].filter((text) => text !== "").join(": "),
    })),
  ].sort((a, b) => b.step - a.step || (b.at ?? "").localeCompare(a.at ?? ""));
  replace(
    element,
    ...lines.map(({ step, at, text }) =>
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
}

/** A configuration in YAML, empty fields left out. */
export function configText(value: unknown, indent = ""): string {
  if (Array.isArray(value)) {
    return value.map((item) =>
      typeof item === "object"
        ? `${indent}- ${configText(item, `${indent}  `).trimStart()}`
        : `${indent}- ${scalarText(item)}\n`
    ).join("");
  }
  if (typeof value !== "object" || value === null) return `${indent}${scalarText(value)}\n`;
  return Object.entries(value)
    .filter(([, inner]) => inner !== "" && !(Array.isArray(inner) && inner.length === 0))
    .map(([name, inner]) =>
      typeof inner === "object" && inner !== null
        ? `${indent}${name}:\n${configText(inner, `${indent}  `)}`
        : `${indent}${name}: ${scalarText(inner)}\n`
    ).join("");
}

function scalarText(value: unknown): string {
  return typeof value === "string" && !/^[\w./+-]*[A-Za-z/][\w./+-]*$/.test(value)
    ? JSON.stringify(value)
    : String(value);
}
