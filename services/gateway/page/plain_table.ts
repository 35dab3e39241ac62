import { h } from "./dom.ts";

/**
 * A table of rows under a head.
 *
 * @param stacked on a phone its cells stand one below the other, each under its `data-label`
 */
export function plainTable(
  heads: readonly string[],
  { rows, stacked = false }: { readonly rows: readonly HTMLElement[]; readonly stacked?: boolean },
): HTMLTableElement {
  return h(
    "table",
    { class: stacked ? "plain stacked" : "plain" },
    h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows),
  );
}
