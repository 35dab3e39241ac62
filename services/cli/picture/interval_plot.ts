import { LINE, textPath, textWidth } from "./text_path.ts";
import { ticks } from "./ticks.ts";

/** A value and its interval. */
export interface IntervalRow {
  readonly name: string;
  readonly mean: number;
  readonly low: number;
  readonly high: number;
  /** Single values that the mean is of, drawn as small marks. */
  readonly marks?: readonly number[];
}

/** Rows on one horizontal axis. */
export interface IntervalPanel {
  readonly title: string;
  readonly rows: readonly IntervalRow[];
  /** A vertical line, such as the value that nothing has changed from. */
  readonly line?: number;
}

const [WIDTH, ROW, TOP, BOTTOM, RIGHT] = [720, 22, 32, 34, 24];
const [INK, GRID, MARK, COLOR] = ["#1f2430", "#d9dde5", "#8fa3d6", "#2b59c3"];
/** Size of text, in pixels. */
const SIZE = 13;

/** Panels of values with their intervals, a row each, as an SVG document with a white background. */
export function intervalPlot(panels: readonly IntervalPanel[]): string {
  const names = panels.flatMap(({ rows }) => rows.map(({ name }) => textWidth(name, SIZE)));
  const left = 24 + Math.max(0, ...names);
  let top = 0;
  const body = panels.map((panel) => {
    const svg = drawPanel(panel, { top, left });
    top += TOP + panel.rows.length * ROW + BOTTOM;
    return svg;
  }).join("");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" width="${WIDTH}" height="${top}">` +
    `<rect width="100%" height="100%" fill="#fff"/>${body}</svg>`;
}

function drawPanel(
  { title, rows, line }: IntervalPanel,
  { top, left }: { readonly top: number; readonly left: number },
): string {
  const values = [
    ...rows.flatMap(({ mean, low, high, marks = [] }) => [mean, low, high, ...marks]),
    ...line === undefined ? [] : [line],
  ].filter(Number.isFinite);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  const x = (v: number) => left + (v - low + pad) / (high - low + 2 * pad) * (WIDTH - RIGHT - left);
  const bottom = top + TOP + rows.length * ROW;
  const at = values.length === 0 ? [] : ticks(low - pad, high + pad, 6);
  const axis = at.map((v) => {
    const text = String(Number(v.toPrecision(4)));
    return `<path stroke="${GRID}" d="M${x(v).toFixed(1)} ${top + TOP}V${bottom}"/>` +
      textPath(text, {
        ...{ x: x(v) - textWidth(text, SIZE) / 2, y: bottom + 6, size: SIZE, fill: INK },
      });
  }).join("");
  const zero = line === undefined
    ? ""
    : `<path stroke="${INK}" stroke-dasharray="4 3" d="M${x(line).toFixed(1)} ${top + TOP - 4}V${
      bottom + 2
    }"/>`;
  const drawn = rows.map(({ name, mean, low, high, marks = [] }, i) => {
    const y = top + TOP + (i + 0.5) * ROW;
    const label = textPath(name, { x: 8, y: y - SIZE * LINE / 2, size: SIZE, fill: INK });
    if (!Number.isFinite(mean)) return label;
    const ends = [low, high].filter(Number.isFinite).map(x);
    const bar = ends.length < 2
      ? ""
      : `<path stroke="${COLOR}" stroke-width="2" d="M${ends[0]?.toFixed(1)} ${y}H${
        ends[1]?.toFixed(1)
      }"/>`;
    const single = marks.map((v) =>
      `<circle cx="${x(v).toFixed(1)}" cy="${y + 6}" r="2" fill="${MARK}"/>`
    ).join("");
    return `${label}${bar}<circle cx="${
      x(mean).toFixed(1)
    }" cy="${y}" r="4.5" fill="${COLOR}"/>${single}`;
  }).join("");
  return textPath(title, { x: 8, y: top + 10, size: SIZE, fill: INK }) + axis + zero + drawn;
}
