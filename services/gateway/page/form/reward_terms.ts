import { button, h, replace } from "../dom.ts";
import type { RewardTermJson } from "../types.ts";
import { boundField } from "./bound_field.ts";
import { type FieldPath, valueAt } from "./config_draft.ts";
import type { FormContext, FormPart } from "./form_context.ts";
import { fieldsOf, type FormField } from "./form_field.ts";
import { RewardSelect } from "./reward_select.ts";
import { type ServedReward, servedRewards } from "./served_rewards.ts";

/** A list of rewards, those of the mixture or the panel's, picked from what is served. */
export function rewardTerms(
  { field, path }: { readonly field: FormField; readonly path: FieldPath },
  context: FormContext,
): FormPart {
  const { draft, trainer } = context;
  const rows = h("div", { class: "reward-terms" });
  const served = () => servedRewards(context.services(), trainer.rewards);
  const termsNow = (): readonly unknown[] => {
    const value = valueAt(draft.config, path);
    return Array.isArray(value) ? value : [];
  };
  let parts: readonly FormPart[] = [];
  const add = () => {
    const named = new Set(termsNow().map((term) => valueAt(term, ["name"])));
    const all = served();
    const free = all.find(({ term, service }) => service.ready && !named.has(term.name)) ??
      all.find(({ term }) => !named.has(term.name));
    const at = termsNow().length;
    draft.change([{ path: [...path, at], value: free?.term ?? { name: `reward ${at + 1}` } }]);
  };
  const element = h(
    "div",
    { class: "field wide", "data-field": path.join(".") },
    h("p", { class: "hint" }, field.help),
    rows,
    button("Add a reward", add, { class: "small" }),
  );
  return {
    element,
    update() {
      const { length } = termsNow();
      if (parts.length !== length) {
        parts = Array.from(
          { length },
          (_, i) => termRow(field, { path: [...path, i], served }, context),
        );
        replace(rows, ...parts.map((part) => part.element));
      }
      for (const part of parts) part.update();
    },
  };
}

function termRow(
  { message }: FormField,
  { path, served }: { readonly path: FieldPath; readonly served: () => readonly ServedReward[] },
  context: FormContext,
): FormPart {
  const { draft, contract } = context;
  const select = new RewardSelect("Reward", (term) => {
    const { name = null, endpoint = null, reward = null } = term ?? {};
    more.open = more.open || term === undefined;
    draft.change([
      ...(name === null ? [] : [{ path: [...path, "name"], value: name }]),
      // One that is not served here needs an address, which the field under "More" takes.
      { path: [...path, "endpoint"], value: term === undefined ? "host:50051" : endpoint },
      { path: [...path, "reward"], value: reward },
      // Another reward has other weights.
      { path: [...path, "expectedDigest"], value: null },
    ]);
  });
  const fields = fieldsOf(message, contract).map((field) => ({
    name: field.name,
    part: boundField({ field, path: [...path, field.name] }, context),
  }));
  const first = fields.filter(({ name }) => name === "weight");
  const rest = fields.filter(({ name }) => name !== "weight");
  const more = h(
    "details",
    {},
    h("summary", {}, "More"),
    h("div", { class: "fields" }, ...rest.map(({ part }) => part.element)),
  );
  const element = h(
    "div",
    { class: "reward-term" },
    h(
      "div",
      { class: "reward-term-head" },
      h("div", { class: "field" }, h("span", { class: "field-label" }, "Reward"), select.element),
      ...first.map(({ part }) => part.element),
      button("Remove", () => void draft.change([{ path, value: null }]), {
        "aria-label": `Remove reward ${Number(path.at(-1)) + 1}`,
      }),
    ),
    select.facts,
    more,
  );
  return {
    element,
    update() {
      const term: RewardTermJson = Object(valueAt(draft.config, path));
      select.update(term, served());
      for (const { part } of fields) part.update();
    },
  };
}
