import { button, h, onceAFrame, replace } from "../dom.ts";
import { betterOf } from "../form/served_rewards.ts";
import { number } from "../format.ts";
import type { RewardDescription, Service, Services } from "../types.ts";
import type { View, ViewContext } from "./view.ts";
import { workersCard } from "./workers_card.ts";

/** Every service: does it answer, and with which weights. */
export function servicesView({ overview, signal }: ViewContext): View {
  const body = h("div", { class: "cards" });
  let shown: Services | undefined;
  const draw = onceAFrame(() => {
    const { services } = overview;
    // Runs change every second; what is drawn anew loses the focus.
    if (services !== undefined && services === shown) return;
    shown = services;
    if (services === undefined) replace(body, h("p", { class: "empty" }, "Loading…"));
    else {
      replace(
        body,
        card({ ...services.trainer, name: "Trainer" }),
        ...services.rewards.map(card),
        services.rewards.length === 0 &&
          h(
            "p",
            { class: "empty" },
            "The gateway knows no reward servers: start it with --rewards NAME=HOST:PORT. Runs name theirs themselves.",
          ),
      );
    }
  });
  overview.addEventListener("change", draw, { signal });
  draw();
  return {
    title: "Services",
    content: [
      h("div", { class: "page-head" }, h("h1", {}, "Services")),
      body,
      workersCard(signal),
    ],
  };
}

function card({ name, address, ready, reason, rewards = [] }: Service): HTMLElement {
  return h(
    "section",
    { class: "card" },
    h(
      "header",
      {},
      h("h2", {}, name),
      h(
        "span",
        { class: `chip ${ready ? "state-finished" : "state-failed"}` },
        h("span", { class: "dot" }),
        ready ? "answers" : "does not answer",
      ),
    ),
    h("p", { class: "mono sub" }, address),
    reason !== "" && h("p", { class: "fault" }, reason),
    ...rewards.map((reward) => facts(reward, name)),
  );
}

function facts(reward: RewardDescription, server: string): HTMLElement {
  const { name, kind, digest, provider, selfCheck, preprocessing, readsPrompt } = reward;
  const row = (
    label: string,
    ...value: (Node | string)[]
  ) => [h("dt", {}, label), h("dd", {}, ...value)];
  const error = selfCheck?.relativeError;
  return h(
    "div",
    {},
    name !== server && h("h3", {}, name),
    h(
      "dl",
      { class: "facts" },
      ...row("Kind", kind),
      ...row("Better", betterOf(reward)),
      ...row("Range", `${number(Number(reward.lowest))} to ${number(Number(reward.highest))}`),
      ...row("Reads prompt", readsPrompt ? "yes" : "no"),
      ...row("Preprocessing", preprocessing || "none"),
      ...row("Provider", provider),
      ...row(
        "Self-check",
        selfCheck === undefined
          ? "switched off"
          : `score ${number(Number(selfCheck.score))}, |gradient| ${
            number(Number(selfCheck.gradientNorm))
          }` +
            (error === undefined ? "" : `, relative error ${number(Number(error), 2)}`),
      ),
      ...row("Weights", digestText(digest)),
    ),
  );
}

/** A digest that can be copied, where the browser lets a page do so. */
export function digestText(digest: string): HTMLElement {
  const copy = button("Copy", async () => {
    await navigator.clipboard.writeText(digest);
    replace(copy, "Copied");
    setTimeout(() => replace(copy, "Copy"), 1500);
  }, { class: "small", "aria-label": "Copy digest" });
  return h(
    "span",
    { class: "digest" },
    h("code", { title: digest }, digest),
    isSecureContext && copy,
  );
}
