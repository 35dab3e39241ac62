import { h, replace } from "../dom.ts";
import type { CompareOrder } from "./compare_order.ts";
import { compareResults } from "./compare_results.ts";
import { CompareSetup } from "./compare_setup.ts";
import { Judging } from "./judging.ts";
import type { View, ViewContext } from "./view.ts";

/** A blind comparison of two checkpoints or models by somebody who looks: the paper's user study for one. */
export function judgeView({ overview, params, signal }: ViewContext): View {
  const body = h("div", {});
  const setup = new CompareSetup(params[0], { onStart: (order) => judge(order) });
  const refresh = () => setup.update(overview.newestFirst, overview.ready);
  overview.addEventListener("change", refresh, { signal });
  refresh();
  let study = new AbortController();
  signal.addEventListener("abort", () => study.abort());
  const again = () => {
    study.abort();
    replace(body, setup.element);
  };
  const judge = (order: CompareOrder) => {
    study.abort();
    study = new AbortController();
    const judging = new Judging(order, {
      signal: study.signal,
      onDone: (comparison) => replace(body, compareResults(comparison, order, again)),
      onQuit: again,
    });
    replace(body, judging.element);
    judging.element.focus();
  };
  replace(body, setup.element);
  return {
    title: "Judge blind",
    content: [
      h("a", { class: "back", href: "#/compare" }, "Compare runs"),
      h("div", { class: "page-head" }, h("h1", {}, "Judge blind")),
      body,
    ],
  };
}
