import { request, runPath } from "../api.ts";
import { openDialog } from "../dialog.ts";
import { button, field, h } from "../dom.ts";
import { RewardSelect } from "../form/reward_select.ts";
import { servedRewards } from "../form/served_rewards.ts";
import type { RewardTerm, RewardTermJson, Run, Services } from "../types.ts";

/** Lets somebody change the mixture of a run: weights, rewards picked from those served, added and removed. */
export function openSwapDialog(
  { id, rewards, state }: Run,
  services: Services | undefined,
): void {
  // Terms with their addresses mean the same whatever names the trainer knows.
  const served = servedRewards(services, []);
  const rows = h("div", { class: "terms" });
  const terms: (() => RewardTermJson | undefined)[] = [];
  const add = (term: Partial<RewardTerm>) => {
    // What is not shown, such as what it reads and how it counts, stays as it is.
    const { without = [], ...how } = term;
    // Another reward has other weights and other names.
    let present: RewardTermJson = identityOf(term);
    const name = h("input", { type: "text", value: term.name ?? "" });
    const endpoint = h("input", {
      type: "text",
      value: term.endpoint ?? "",
      placeholder: "host:port",
    });
    const weight = h("input", { type: "number", value: term.weight ?? 1, step: "any" });
    const select = new RewardSelect("Reward", (chosen) => {
      present = identityOf(chosen ?? {});
      [name.value, endpoint.value] = [chosen?.name ?? "", chosen?.endpoint ?? ""];
      own.hidden = chosen !== undefined;
    });
    const own = h(
      "div",
      { class: "row" },
      field("Name", name),
      field("Service", endpoint),
    );
    select.update(present, served);
    own.hidden = select.element.value !== "";
    const row: HTMLElement = h(
      "div",
      { class: "reward-term" },
      h(
        "div",
        { class: "reward-term-head" },
        h(
          "label",
          { class: "field" },
          h("span", { class: "field-label" }, "Reward"),
          select.element,
        ),
        field("Weight", weight),
        button("Remove", () => row.remove(), { "aria-label": "Remove reward" }),
      ),
      select.facts,
      own,
    );
    rows.append(row);
    terms.push(() => {
      if (!row.isConnected) return undefined;
      const same = endpoint.value === (present.endpoint ?? "");
      return {
        ...how,
        without: [...without],
        ...(same ? present : identityOf({})),
        name: name.value,
        endpoint: endpoint.value,
        weight: weight.valueAsNumber,
      };
    });
    return select.element;
  };
  rewards.forEach(add);
  const addServed = () => {
    const taken = new Set(
      terms.map((term) => term()?.name).filter((name) => name !== undefined),
    );
    add(served.find(({ term, service }) => service.ready && !taken.has(term.name))?.term ?? {})
      .focus();
  };
  openDialog({
    title: "Change rewards",
    body: [
      h(
        "p",
        {},
        `Takes effect ${
          state === "RUN_STATE_RUNNING" ? "at the next step" : "when the run goes on"
        }. ` +
          "A positive weight improves the reward, a negative one worsens it, 0 only measures it.",
      ),
      rows,
      button("Add a reward", addServed),
    ],
    action: "Change",
    act: async () => {
      const mixture = terms.map((term) => term()).filter((term) => term !== undefined);
      await request(runPath(id, "/swap"), { body: { mixture: { rewards: mixture } } });
    },
  });
}

/** Which reward a term means. */
function identityOf(
  { name = "", endpoint = "", reward = "", expectedDigest = "" }: Partial<RewardTerm>,
): RewardTermJson {
  return { name, endpoint, reward, expectedDigest };
}
