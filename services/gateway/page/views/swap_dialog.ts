import { request, runPath } from "../api.ts";
import { openDialog } from "../dialog.ts";
import { button, field, h } from "../dom.ts";
import type { RewardTerm, RewardTermJson, Run } from "../types.ts";

/** Lets somebody change the mixture of a run: weights, services, rewards added and removed. */
export function openSwapDialog({ id, rewards, state }: Run): void {
  const rows = h("div", { class: "terms" });
  const terms: (() => RewardTermJson | undefined)[] = [];
  const add = (
    { name, endpoint, weight, expectedDigest, reward, without = [], ...how }: Partial<RewardTerm>,
  ) => {
    const fields = {
      name: h("input", { type: "text", value: name ?? "" }),
      endpoint: h("input", { type: "text", value: endpoint ?? "", placeholder: "host:port" }),
      weight: h("input", { type: "number", value: weight ?? 1, step: "any" }),
    };
    const row: HTMLElement = h(
      "div",
      { class: "term" },
      field("Name", fields.name),
      field("Service", fields.endpoint),
      field("Weight", fields.weight),
      button("Remove", () => row.remove(), { "aria-label": "Remove reward" }),
    );
    rows.append(row);
    terms.push(() => {
      if (!row.isConnected) return undefined;
      const unchanged = fields.endpoint.value === endpoint;
      return {
        name: fields.name.value,
        endpoint: fields.endpoint.value,
        weight: fields.weight.valueAsNumber,
        // What it reads and how it counts stay.
        ...how,
        without: [...without],
        // Another service may have other weights and other names.
        ...(unchanged && reward && { reward }),
        ...(unchanged && expectedDigest && { expectedDigest }),
      };
    });
    return fields.name;
  };
  rewards.forEach(add);
  openDialog({
    title: "Change rewards",
    body: [
      h(
        "p",
        {},
        `Takes effect ${
          state === "RUN_STATE_RUNNING" ? "at the next step" : "when the run goes on"
        }. ` +
          "A positive weight improves the reward, a negative one worsens it, 0 only measures it. " +
          "A reward that the trainer knows by its name needs no service.",
      ),
      rows,
      button("Add a reward", () => add({}).focus()),
    ],
    action: "Change",
    act: async () => {
      const mixture = terms.map((term) => term()).filter((term) => term !== undefined);
      await request(runPath(id, "/swap"), { body: { mixture: { rewards: mixture } } });
    },
  });
}
