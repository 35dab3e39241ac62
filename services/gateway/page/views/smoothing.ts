import { h, replace } from "../dom.ts";

const KEY = "drtune-smoothing";

/** A slider for how smooth curves are, which the browser remembers. */
export function smoothingControl(onChange: () => void): {
  readonly element: HTMLElement;
  /** Weight of the past, 0 to below 1. */
  readonly value: number;
} {
  const shown = h("output", { class: "num" });
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 0.99,
    step: 0.01,
    value: Number(localStorage.getItem(KEY) ?? 0.6),
    oninput: () => {
      localStorage.setItem(KEY, slider.value);
      show();
      onChange();
    },
  });
  const show = () => replace(shown, slider.valueAsNumber.toFixed(2));
  show();
  return {
    element: h("label", { class: "inline" }, h("span", {}, "Smoothing"), slider, shown),
    get value() {
      return slider.valueAsNumber;
    },
  };
}
