import { ApiError, json, mayPass } from "../api.ts";
import { faultText } from "../dialog.ts";
import { h, replace } from "../dom.ts";
import { duration, number } from "../format.ts";
import { plainTable } from "../plain_table.ts";
import { tile } from "../tile.ts";
import type { RunConfig, RunPlan } from "../types.ts";
import type { FieldPath } from "./config_draft.ts";

/** What a configuration would take, as the trainer estimates it, or what it lacks. Announces "change". */
export class RunEstimate extends EventTarget {
  readonly element = h("section", { class: "estimate", "aria-label": "Estimate" });
  readonly #body = h("div", { role: "status" });
  readonly #signal: AbortSignal;
  #asking = new AbortController();
  #asked = "";
  #planned: RunConfig | undefined;
  #fault: { readonly field: string; readonly message: string } | undefined;

  constructor(signal: AbortSignal) {
    super();
    this.#signal = signal;
    this.element.append(h("h2", {}, "Before it starts"), this.#body);
  }

  /** The configuration with all defaults filled in; undefined where it cannot be had. */
  get planned(): RunConfig | undefined {
    return this.#planned;
  }

  /** What the trainer finds wrong with a field or with what is inside of it; "" for nothing. */
  faultOf(path: FieldPath): string {
    const field = path.join(".");
    const told = this.#fault?.field.replace(/^config\./, "") ?? "";
    const isIts = told === field || told.startsWith(`${field}.`);
    return isIts ? this.#fault?.message ?? "" : "";
  }

  /** Asks about a configuration; about the one that was asked about last only where that is wanted. */
  async ask(config: RunConfig, { again = false } = {}): Promise<void> {
    const asked = JSON.stringify(config);
    if (asked === this.#asked && !again) return;
    this.#asked = asked;
    this.#asking.abort();
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#signal, this.#asking.signal]);
    this.element.setAttribute("aria-busy", "true");
    try {
      const plan = await json<RunPlan>("/v1/plan", { body: { config }, signal });
      [this.#planned, this.#fault] = [plan.config, undefined];
      replace(this.#body, ...estimateOf(plan));
    } catch (error) {
      if (signal.aborted) return;
      const field = error instanceof ApiError ? error.field : undefined;
      this.#fault = field === undefined ? undefined : { field, message: faultText(error) };
      // What was asked and not answered is asked again.
      if (mayPass(error)) this.#asked = "";
      replace(this.#body, h("p", { class: "fault" }, faultText(error)));
    }
    this.element.removeAttribute("aria-busy");
    this.dispatchEvent(new Event("change"));
  }
}

const gib = (amount: number) =>
  amount < 1 ? `${number(Math.round(amount * 1024))} MiB` : `${number(amount, 3)} GiB`;

function estimateOf(plan: RunPlan): (HTMLElement | false)[] {
  const { missing, config, phases, memory, secondsPerIteration, remark } = plan;
  const limit = Number(config?.memoryLimit ?? Infinity);
  const iterations = config?.iterations ?? 0;
  return [
    missing.length > 0 && h(
      "div",
      { class: "missing" },
      h("p", {}, "This cannot start here as it is:"),
      h("ul", {}, ...missing.map((text) => h("li", {}, text))),
    ),
    phases.length > 0 && h(
      "dl",
      { class: "tiles" },
      tile(
        "Memory",
        {
          value: gib(memory),
          sub: memory > limit
            ? `more than the limit of ${gib(limit)}: a smaller size or batch is needed`
            : Number.isFinite(limit)
            ? `limit ${gib(limit)}`
            : "",
        },
      ),
      tile("Iteration", { value: duration(secondsPerIteration), sub: "rewards not counted" }),
      tile(
        "Run",
        {
          value: duration(secondsPerIteration * iterations),
          sub: `${iterations} iterations, pictures and panel not counted`,
        },
      ),
    ),
    remark !== "" && h("p", { class: "sub" }, remark),
    phases.length > 0 && h(
      "details",
      {},
      h("summary", {}, "Where it goes"),
      h(
        "div",
        { class: "scroll" },
        plainTable(["", "Runs", "Pieces", "Memory", "Time"], {
          rows: phases.map(({ name, runs, pieces, memory, seconds }) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, name),
              ...[number(runs, 3), String(pieces), gib(memory), duration(seconds)].map((text) =>
                h("td", { class: "num" }, text)
              ),
            )
          ),
        }),
      ),
    ),
  ];
}
