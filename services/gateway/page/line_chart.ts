import type { Cursor } from "./cursor.ts";
import { h, onceAFrame, replace, say, svg } from "./dom.ts";
import { number } from "./format.ts";
import { smooth, thin, ticks } from "./statistics.ts";

/** A step and a value. */
export type Point = readonly [step: number, value: number];

/** A step that something happened after. */
export interface Marker {
  readonly step: number;
  /** The whole text, shown when the pointer is over the marker. */
  readonly label: string;
  /** What stands beside the line. */
  readonly text: string;
}

/** A curve of a chart. */
export interface Series {
  /** Tells it from the others; "" where there is one. */
  readonly name: string;
  /** Index of the colour, 0 to 5; it begins again after that, with dashes. */
  readonly hue: number;
  readonly points: readonly Point[];
}

/** What a chart shows. */
export interface ChartData {
  readonly series: readonly Series[];
  /** Weight of the past in the bold curve, 0 to below 1. */
  readonly smoothing: number;
  /** Right end of the axis. */
  readonly lastStep: number;
  readonly markers: readonly Marker[];
}

const HEIGHT = 190;
const MARGIN = { left: 52, right: 12, top: 10, bottom: 24 };

/** Curves over steps: what was measured faintly, smoothed boldly, with a crosshair shared by all charts. */
export class LineChart {
  readonly element: HTMLElement;
  readonly #plot = svg("svg", { class: "plot", height: HEIGHT, role: "presentation" });
  readonly #hair = svg("g", { class: "hair" });
  readonly #value = h("span", { class: "chart-value" });
  readonly #note = h("p", { class: "chart-note" });
  readonly #name: string;
  readonly #cursor: Cursor;
  readonly #draw: () => void;
  readonly #legend = h("ul", { class: "legend" });
  #data: ChartData = { series: [], smoothing: 0, lastStep: 1, markers: [] };
  #smoothed: readonly (readonly Point[])[] = [];
  #width = 0;
  #x: (step: number) => number = () => 0;
  #y: (value: number) => number = () => 0;

  constructor(
    { title, unit, cursor, signal }: {
      readonly title: string;
      readonly unit: string;
      readonly cursor: Cursor;
      readonly signal: AbortSignal;
    },
  ) {
    this.#name = title;
    this.#cursor = cursor;
    this.#draw = onceAFrame(() => this.#render());
    this.element = h(
      "figure",
      { class: "chart" },
      h(
        "figcaption",
        {},
        h("span", { class: "swatch", "aria-hidden": "true" }),
        h("span", { class: "chart-title" }, title),
        unit !== "" && h("span", { class: "chart-unit" }, unit),
        this.#value,
        this.#note,
        this.#legend,
      ),
      this.#plot,
    );
    const plot = this.#plot;
    // A slider over the steps: what a screen reader says and what arrow keys do.
    plot.setAttribute("role", "slider");
    plot.setAttribute("tabindex", "0");
    plot.setAttribute("aria-label", `${title} by step`);
    plot.setAttribute("aria-orientation", "horizontal");
    plot.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    plot.addEventListener("pointerleave", () => cursor.step = undefined);
    plot.addEventListener("blur", () => cursor.step = undefined);
    plot.addEventListener("keydown", (event) => this.#key(event));
    cursor.addEventListener("change", () => this.#renderCursor(), { signal });
    const resized = new ResizeObserver(() => this.#draw());
    resized.observe(plot);
    signal.addEventListener("abort", () => resized.disconnect());
  }

  /** A line under the title. */
  set note(text: string) {
    say(this.#note, text);
  }

  update(data: ChartData): void {
    this.#data = data;
    const [first] = data.series;
    this.element.className = `chart ${data.series.length === 1 ? hueClass(first?.hue ?? 0) : ""}`;
    this.#draw();
  }

  #render(): void {
    const { series, smoothing, lastStep, markers } = this.#data;
    this.#width = this.#plot.clientWidth;
    if (this.#width === 0) return;
    this.#smoothed = series.map(({ points }) => {
      const values = smooth(points.map(([, value]) => value), smoothing);
      return points.map(([step], i) => [step, values[i] ?? NaN] as const);
    });
    const points = series.flatMap((one) => one.points);
    const finite = points.map(([, value]) => value).filter(Number.isFinite);
    const [low, high] = range(finite);
    const inner = this.#width - MARGIN.left - MARGIN.right;
    const tall = HEIGHT - MARGIN.top - MARGIN.bottom;
    const first = Math.min(1, ...series.map((one) => one.points[0]?.[0] ?? 1));
    const last = Math.max(lastStep, 2);
    this.#x = (step) => MARGIN.left + inner * (step - first) / (last - first);
    this.#y = (value) => MARGIN.top + tall * (1 - (value - low) / (high - low));
    const right = this.#width - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;

    const levels = finite.length > 0 ? ticks(low, high, 4) : [];
    const grid = levels.flatMap((value) => {
      const y = this.#y(value);
      const text = tickText(value, (levels[1] ?? 0) - (levels[0] ?? 0));
      return [
        svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y, y2: y }),
        svg("text", { class: "tick", x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, text),
      ];
    });
    const steps = ticks(first, last, Math.max(3, Math.floor(inner / 70)))
      .filter((step) => Number.isInteger(step))
      .map((step) =>
        svg("text", {
          class: "tick",
          x: this.#x(step),
          y: HEIGHT - 6,
          // A digit is about 7 wide.
          "text-anchor": this.#x(step) + 3.6 * String(step).length > this.#width ? "end" : "middle",
        }, String(step))
      );
    const lines = markers.filter(({ step }) => step <= last).map(({ step, label, text }) => {
      // After the step, before the next.
      const x = this.#x(step + 0.5);
      return svg(
        "g",
        { class: "marker" },
        svg("title", {}, label),
        svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: bottom }),
        svg("path", { d: `M${x - 4} ${MARGIN.top - 6}h8l-4 6z` }),
        markers.length <= 3 && x < right - 90 &&
          svg("text", { class: "tick", x: x + 7, y: MARGIN.top + 2 }, text),
      );
    });
    const buckets = Math.max(50, Math.floor(inner));
    this.#plot.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    replace(
      this.#plot,
      ...grid,
      svg(
        "text",
        { class: "tick", x: MARGIN.left - 8, y: HEIGHT - 6, "text-anchor": "end" },
        "step",
      ),
      ...steps,
      ...lines,
      ...series.flatMap(({ hue, points }, i) => [
        smoothing > 0 &&
        svg("path", { class: `raw ${hueClass(hue)}`, d: this.#path(thin(points, buckets)) }),
        svg("path", {
          class: `curve ${hueClass(hue)}`,
          d: this.#path(thin(this.#smoothed[i] ?? [], buckets)),
        }),
      ]),
      finite.length === 0 &&
        svg("text", {
          class: "tick",
          x: MARGIN.left + inner / 2,
          y: MARGIN.top + tall / 2,
          "text-anchor": "middle",
        }, points.length === 0 ? "No step yet" : "No finite value yet"),
      this.#hair,
    );
    this.#plot.setAttribute("aria-valuemin", String(first));
    this.#plot.setAttribute("aria-valuemax", String(this.#longest.at(-1)?.[0] ?? 1));
    this.#renderCursor();
  }

  /** The curve; what is not finite is a gap in it. */
  #path(points: readonly Point[]): string {
    let pen = "M";
    const parts: string[] = [];
    for (const [step, value] of points) {
      if (!Number.isFinite(value)) {
        pen = "M";
        continue;
      }
      parts.push(`${pen}${this.#x(step).toFixed(1)} ${this.#y(value).toFixed(1)}`);
      pen = "L";
    }
    // A single step is a dot: a line of no length with round ends.
    return parts.length === 1 ? `${parts[0]}h0` : parts.join("");
  }

  #renderCursor(): void {
    const { series } = this.#data;
    const step = this.#longest[nearest(this.#longest, this.#cursor.step ?? Infinity)]?.[0];
    if (step === undefined) {
      replace(this.#value, "–");
      replace(this.#legend);
      return replace(this.#hair);
    }
    const atCursor = this.#cursor.step !== undefined;
    // Curves that end earlier stay at their ends.
    const values = series.map(({ name, hue, points }, i) => {
      const at = nearest(points, step);
      return {
        ...{ name, hue, step: points[at]?.[0] ?? NaN, value: points[at]?.[1] ?? NaN },
        shown: this.#smoothed[i]?.[at]?.[1] ?? NaN,
      };
    });
    const [only] = values;
    const alone = values.length === 1;
    replace(
      this.#value,
      atCursor && h("span", { class: "chart-step" }, `step ${step}`),
      alone && number(only?.value ?? NaN),
    );
    replace(
      this.#legend,
      ...(alone ? [] : values.map((value) => legendEntry(value, step))),
    );
    const told = values.map(({ name, value }) => `${name} ${number(value)}`.trim()).join(", ");
    this.#plot.setAttribute("aria-valuenow", String(step));
    this.#plot.setAttribute("aria-valuetext", `${this.#name}, step ${step}: ${told}`);
    const seen = values.filter(({ shown }) => Number.isFinite(shown));
    if (this.#width === 0 || seen.length === 0) return replace(this.#hair);
    const x = this.#x(step);
    replace(
      this.#hair,
      atCursor &&
        svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      ...seen.map(({ hue, step, shown }) =>
        svg("circle", {
          class: hueClass(hue),
          cx: this.#x(step),
          cy: this.#y(shown),
          r: atCursor ? 4 : 3,
        })
      ),
    );
  }

  /** The points that the crosshair goes by: those of the series that goes on longest. */
  get #longest(): readonly Point[] {
    const ends = this.#data.series.map(({ points }) => points.at(-1)?.[0] ?? -1);
    return this.#data.series[ends.indexOf(Math.max(...ends))]?.points ?? [];
  }

  #point(x: number): void {
    const points = this.#longest;
    const perPixel = (this.#x(1) - this.#x(0)) || 1;
    const step = Math.round((x - this.#x(0)) / perPixel);
    this.#cursor.step = points[nearest(points, step)]?.[0];
  }

  #key(event: KeyboardEvent): void {
    const points = this.#longest;
    if (points.length === 0) return;
    const at = nearest(points, this.#cursor.step ?? Infinity);
    const to = keyTarget(event.key, { at, of: points.length });
    if (event.key === "Escape") this.#cursor.step = undefined;
    if (to === undefined) return;
    event.preventDefault();
    this.#cursor.step = points[to]?.[0];
  }
}

/** A curve's name and value at the crosshair's step. */
function legendEntry(
  { name, hue, value, step }: Pick<Series, "name" | "hue"> & { value: number; step: number },
  cursor: number,
): HTMLElement {
  return h(
    "li",
    { class: hueClass(hue) },
    h("span", { class: "swatch" }),
    `${name} `,
    h("b", {}, number(value)),
    // The curve has ended before the crosshair, or was measured at other steps.
    step !== cursor && ` at step ${step}`,
  );
}

/** Index of the point that a key moves the crosshair to. Undefined for a key that moves nothing. */
function keyTarget(
  key: string,
  { at, of }: { readonly at: number; readonly of: number },
): number | undefined {
  const page = Math.max(1, Math.round(of / 10));
  const targets: Readonly<Record<string, number>> = {
    ArrowLeft: at - 1,
    ArrowDown: at - 1,
    ArrowRight: at + 1,
    ArrowUp: at + 1,
    PageDown: at - page,
    PageUp: at + page,
    Home: 0,
    End: of - 1,
  };
  const to = targets[key];
  return to === undefined ? undefined : Math.min(Math.max(to, 0), of - 1);
}

/** Index of the point nearest to a step. */
function nearest(points: readonly Point[], step: number): number {
  // The first at or after it, or the one before that.
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((points[middle]?.[0] ?? 0) < step) low = middle + 1;
    else high = middle;
  }
  const distance = (i: number) => Math.abs((points[i]?.[0] ?? Infinity) - step);
  return low > 0 && !(distance(low) < distance(low - 1)) ? low - 1 : low;
}

/** Six colours, then the same ones dashed. */
function hueClass(hue: number): string {
  return `hue-${hue % 6}${hue >= 6 ? ` dash-${Math.floor(hue / 6) % 3}` : ""}`;
}

/** The values' range with a little air; of one value, something around it. */
function range(values: readonly number[]): readonly [low: number, high: number] {
  if (values.length === 0) return [0, 1];
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const air = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.1;
  return [low - air, high + air];
}

/** A tick's number, with as many decimals as the distance of ticks needs. */
function tickText(value: number, distance: number): string {
  const decimals = distance > 0 ? Math.max(0, -Math.floor(Math.log10(distance) + 1e-9)) : 2;
  const text = decimals > 4 || Math.abs(value) >= 1e6
    ? value.toExponential(1).replace("e+", "e")
    : value.toFixed(decimals);
  return text.replaceAll("-", "−");
}
