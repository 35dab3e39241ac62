import { h } from "../dom.ts";
import { stateName } from "../format.ts";

/** A run's state in its colour. */
export function stateChip(state: string): HTMLElement {
  const name = stateName(state);
  return h("span", { class: `chip state-${name}` }, h("span", { class: "dot" }), name);
}

/** The run goes on by itself. */
export function isGoing(state: string): boolean {
  return ["queued", "running", "paused", "stopping"].includes(stateName(state));
}
