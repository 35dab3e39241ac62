import type { Summary } from "../../../../base/statistics/mod.ts";
import { h } from "../dom.ts";
import { number, signed } from "../format.ts";
import { plainTable } from "../plain_table.ts";
import { verdict } from "../views/evaluation_table.ts";
import type { ComparedRun } from "./compared_run.ts";
import { type Counted, type Course, courses, differenceOf, meanOf } from "./measured.ts";

/** Of each reward: how each run ended, what training changed, and how it differs from the first run. */
export function finalTables(
  runs: readonly ComparedRun[],
  better: ReadonlyMap<string, string>,
): HTMLElement[] {
  const all = runs.map(({ run, history }) => ({
    id: run.id,
    courses: courses(history, run.config),
  }));
  const names = [...new Set(all.flatMap(({ courses }) => [...courses.keys()]))];
  const [reference] = all;
  return names.map((name) => {
    const direction = better.get(name);
    return h(
      "div",
      { class: "final" },
      h(
        "h3",
        {},
        name,
        direction !== undefined && h("span", { class: "sub" }, ` ${direction} is better`),
      ),
      h(
        "div",
        { class: "scroll" },
        plainTable(HEADS, {
          rows: all.map(({ id, courses }) =>
            row(id, {
              course: courses.get(name),
              reference: id === reference?.id ? undefined : reference?.courses.get(name),
              direction,
            })
          ),
        }),
      ),
    );
  });
}

const HEADS = ["Run", "At the end", "Measured", "Change in training", "Against the first run"];

function row(
  id: string,
  { course, reference, direction }: {
    readonly course: Course | undefined;
    readonly reference: Course | undefined;
    readonly direction: string | undefined;
  },
): HTMLElement {
  const cell = (...content: (Node | string)[]) => h("td", { class: "num" }, ...content);
  if (course === undefined) {
    return h("tr", {}, h("th", { scope: "row" }, id), h("td", { colspan: 4 }, "not measured"));
  }
  const { first, last } = course;
  const mean = meanOf(last);
  const change = first.step === last.step ? undefined : differenceOf(first, last);
  const against = reference && differenceOf(reference.last, last);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, id),
    cell(number(mean.mean), " ", interval(mean, number)),
    cell(`step ${last.step}, ${mean.count} images of its ${last.source}`),
    cell(...differenceText(change, direction)),
    cell(...reference ? differenceText(against, direction) : ["–"]),
  );
}

function differenceText(
  found: Counted | undefined,
  direction: string | undefined,
): (Node | string)[] {
  if (found === undefined) return ["no images in common"];
  return [
    signed(found.mean),
    " ",
    interval(found, signed),
    " ",
    h("span", { class: "sub" }, verdict([found.low, found.high], direction)),
  ];
}

function interval({ low, high }: Summary, text: (value: number) => string): HTMLElement {
  return h("span", { class: "sub" }, `(${text(low)} to ${text(high)})`);
}
