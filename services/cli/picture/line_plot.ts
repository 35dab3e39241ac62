import { LINE, textPath, textWidth } from "./text_path.ts";
import { ticks } from "./ticks.ts";

/** One curve of a plot. */
export interface Series {
  /** In the legend; empty: not there. */
  readonly name: string;
  readonly color: string;
  /** (x, y) in data units, x ascending. */
  readonly points: readonly (readonly [number, number])[];
}

/** One panel of a plot: its own vertical axis. */
export interface Panel {
  readonly title: string;
  readonly series: readonly Series[];
}

const [WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [720, 220, 72, 16, 34, 30];
const INK = "#1f2430";
const GRID = "#d9dde5";
/** Size of text, in pixels. */
const SIZE = 13;

/** Panels of curves over one horizontal axis, as an SVG document with a white background. */
export function linePlot(panels: readonly Panel[], xLabel: string): string {
  const height = panels.length * PANEL_HEIGHT + 20;
  const body = panels.map((p, i) => panel(p, i * PANEL_HEIGHT)).join("");
  const label = textPath(xLabel, {
    x: (WIDTH - textWidth(xLabel, SIZE)) / 2,
    y: height - 18,
    size: SIZE,
    fill: INK,
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">` +
    `<rect width="100%" height="100%" fill="#fff"/>${body}${label}</svg>`;
}

function panel({ title, series }: Panel, top: number): string {
  const points = series.flatMap((s) => s.points);
  const [x0, x1] = extent(points.map(([x]) => x), 0);
  const [y0, y1] = extent(points.map(([, y]) => y), 0.06);
  const px = (x: number) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y: number) =>
    top + PANEL_HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (PANEL_HEIGHT - TOP - BOTTOM);
  const yTicks = ticks(y0, y1, 6).map((v) => {
    const text = label(v);
    return `<path stroke="${GRID}" d="M${LEFT} ${py(v)}H${WIDTH - RIGHT}"/>` +
      textPath(text, {
        x: LEFT - 8 - textWidth(text, SIZE),
        y: py(v) - SIZE * LINE / 2,
        size: SIZE,
        fill: INK,
      });
  }).join("");
  const xTicks = ticks(x0, x1, 8).map((v) => {
    const text = label(v);
    return textPath(text, {
      x: px(v) - textWidth(text, SIZE) / 2,
      y: top + PANEL_HEIGHT - BOTTOM + 6,
      size: SIZE,
      fill: INK,
    });
  }).join("");
  const named = series.length < 2 ? [] : series.filter(({ name }) => name !== "");
  const words = textWidth(title, SIZE) + named.reduce((sum, s) => sum + textWidth(s.name, SIZE), 0);
  // A long head is written smaller rather than past the edge; the gaps keep their width.
  const size = SIZE * Math.min(1, (WIDTH - LEFT - RIGHT - 24 - 40 * named.length) / words);
  let at = LEFT + textWidth(title, size) + 24;
  const legend = named.map((s) => {
    const entry =
      `<rect x="${at}" y="${top + 8 + size * LINE / 2}" width="14" height="4" fill="${s.color}"/>` +
      textPath(s.name, { x: at + 20, y: top + 10, size, fill: INK });
    at += 40 + textWidth(s.name, size);
    return entry;
  }).join("");
  const lines = series.map((s) =>
    `<polyline fill="none" stroke="${s.color}" stroke-width="2" stroke-linejoin="round" points="${
      s.points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ")
    }"/>`
  ).join("");
  return textPath(title, { x: LEFT, y: top + 10, size, fill: INK }) + legend + yTicks +
    xTicks + lines;
}

function extent(values: readonly number[], margin: number): readonly [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  if (!(low <= high)) return [0, 1];
  const pad = high > low ? (high - low) * margin : Math.abs(high) * 0.1 || 1;
  return [low - pad, high + pad];
}

const label = (v: number) => String(Number(v.toPrecision(4)));

/** Exponential moving average, corrected for its start, of a curve's values. */
export function smooth(values: readonly number[], decay: number): readonly number[] {
  let [sum, weight] = [0, 0];
  return values.map((v) => {
    sum = decay * sum + (1 - decay) * v;
    weight = decay * weight + (1 - decay);
    return sum / weight;
  });
}
