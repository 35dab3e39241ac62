import type { ClusterPlan } from "../../trainer/mod.ts";

/** A line of a picture. */
export interface Curve {
  readonly name: string;
  readonly plans: readonly ClusterPlan[];
}

const [WIDTH, HEIGHT] = [720, 400];
const MARGIN = { left: 64, right: 150, top: 24, bottom: 52 };
const COLOURS = ["#1f6feb", "#bf3989"];

/** Seconds of an iteration over workers, both on logarithmic axes, beside what the workers would do without any cost. */
export function curveSvg(curves: readonly Curve[]): string {
  const all = curves.flatMap(({ plans }) => plans);
  const workers = all.map(({ shape }) => shape.workers);
  const seconds = all.map(({ secondsPerIteration }) => secondsPerIteration);
  const ideals = curves.flatMap(({ plans }) => idealsOf(plans));
  const x = scale([1, Math.max(...workers)], [MARGIN.left, WIDTH - MARGIN.right]);
  const bounds = [...seconds, ...ideals];
  const y = scale(
    [10 ** Math.floor(Math.log10(Math.min(...bounds))), 1.2 * Math.max(...bounds)],
    [HEIGHT - MARGIN.bottom, MARGIN.top],
  );
  const line = (points: readonly (readonly [number, number])[], style: string) =>
    `<polyline fill="none" ${style} points="${
      points.map(([a, b]) => `${x(a)},${y(b)}`).join(" ")
    }"/>`;
  const text = (at: readonly [number, number], words: string, style = "") =>
    `<text x="${at[0]}" y="${at[1]}" ${style}>${words}</text>`;
  const ticks = (values: readonly number[]) => values.filter((v) => v <= Math.max(...bounds));
  const parts = [
    ...ticks([0.1, 1, 10, 100, 1000, 10_000]).filter((v) => v >= Math.min(...bounds) / 10).flatMap(
      (v) => [
        `<path d="M${MARGIN.left} ${y(v)}H${WIDTH - MARGIN.right}" stroke="#d0d7de"/>`,
        text([MARGIN.left - 8, y(v) + 4], v.toLocaleString("en"), 'text-anchor="end"'),
      ],
    ),
    ...[1, 10, 100, 1000].map((v) =>
      text([x(v), HEIGHT - MARGIN.bottom + 20], v.toLocaleString("en"), 'text-anchor="middle"')
    ),
    text(
      [(MARGIN.left + WIDTH - MARGIN.right) / 2, HEIGHT - 12],
      "workers",
      'text-anchor="middle"',
    ),
    text([8, 14], "seconds an iteration"),
    ...curves.flatMap(({ name, plans }, i) => {
      const colour = COLOURS[i % COLOURS.length] ?? "#000";
      const points = plans.map((p) => [p.shape.workers, p.secondsPerIteration] as const);
      const ideal = idealsOf(plans).map((s, k) => [plans[k]?.shape.workers ?? 1, s] as const);
      const last = points.at(-1) ?? [1, 1];
      return [
        line(ideal, `stroke="${colour}" stroke-dasharray="4 4" opacity="0.5"`),
        line(points, `stroke="${colour}" stroke-width="2"`),
        ...points.map(([a, b]) => `<circle cx="${x(a)}" cy="${y(b)}" r="3" fill="${colour}"/>`),
        text([x(last[0]) + 10, y(last[1]) + 4], name, `fill="${colour}"`),
      ];
    }),
    text([WIDTH - MARGIN.right + 10, HEIGHT - MARGIN.bottom - 6], "dashed: no cost but", ""),
    text([WIDTH - MARGIN.right + 10, HEIGHT - MARGIN.bottom + 10], "the images' own", ""),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="#57606a">`,
    `<title>Seconds of an iteration over workers, by simulation</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

/** What one worker takes, divided by the workers. */
function idealsOf(plans: readonly ClusterPlan[]): readonly number[] {
  const [first] = plans;
  return plans.map(({ shape }) => (first?.secondsPerIteration ?? NaN) / shape.workers);
}

/** A logarithmic axis, to a tenth of a pixel. */
function scale(
  [low, high]: readonly [number, number],
  [from, to]: readonly [number, number],
): (value: number) => number {
  return (value) => {
    const share = Math.log(value / low) / Math.log(high / low);
    return Math.round(10 * (from + share * (to - from))) / 10;
  };
}
