import { h } from "./dom.ts";

/** A number with its name above and a remark below, for a list of class "tiles". */
export function tile(
  label: string,
  { value, sub = "" }: { readonly value: string; readonly sub?: Node | string },
): HTMLElement {
  return h(
    "div",
    { class: "tile" },
    h("dt", {}, label),
    h("dd", {}, value),
    h("dd", { class: "sub" }, sub),
  );
}
