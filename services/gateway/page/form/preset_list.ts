import { h, replace } from "../dom.ts";
import type { Preset, RunConfig, Services, TrainerDescription } from "../types.ts";
import { servedAs, servedRewards } from "./served_rewards.ts";

/** Configurations to start from; those that cannot start here say what they lack. */
export class PresetList {
  readonly element = h(
    "div",
    { class: "presets", role: "group", "aria-label": "Presets" },
    h("p", { class: "empty" }, "Loading…"),
  );
  readonly #onChoose: (preset: Preset) => void;
  #buttons: ReadonlyMap<Preset, HTMLButtonElement> = new Map();

  constructor(onChoose: (preset: Preset) => void) {
    this.#onChoose = onChoose;
  }

  /** Shows presets, those that can start first. */
  show(
    presets: readonly Preset[],
    { trainer, services }: {
      readonly trainer: TrainerDescription;
      readonly services: Services | undefined;
    },
  ): void {
    const lacks = new Map(
      presets.map((preset) => [preset, lacking(preset.config, { trainer, services })]),
    );
    const count = (preset: Preset) => lacks.get(preset)?.length ?? 0;
    const sorted = presets.toSorted((a, b) => Number(count(a) > 0) - Number(count(b) > 0));
    this.#buttons = new Map(sorted.map((preset) => {
      const { name, description } = preset;
      const missing = lacks.get(preset) ?? [];
      const element = h(
        "button",
        {
          type: "button",
          class: "preset",
          "aria-pressed": "false",
          onclick: () => this.choose(preset),
        },
        h("b", {}, name),
        // Its first sentence; the rest stands in the configuration.
        h("span", { class: "sub" }, description.split(/(?<=\.) /)[0]),
        missing.length > 0 &&
          h("span", { class: "lacks" }, `Missing here: ${missing.join(", ")}`),
      );
      return [preset, element];
    }));
    replace(this.element, ...this.#buttons.values());
  }

  /** The first that can start here, or the first. */
  get first(): Preset | undefined {
    return this.#buttons.keys().next().value;
  }

  choose(preset: Preset): void {
    for (const [other, button] of this.#buttons) button.ariaPressed = String(other === preset);
    this.#onChoose(preset);
  }
}

/** What a configuration names that is not here: its model, files of prompts, rewards. */
function lacking(
  config: RunConfig,
  { trainer, services }: {
    readonly trainer: TrainerDescription;
    readonly services: Services | undefined;
  },
): string[] {
  const { model = "", prompts, heldOutPrompts, rewards = [], panel } = config;
  const served = servedRewards(services, trainer.rewards);
  const found = trainer.models.find(({ path }) => path === model);
  const files = [prompts?.file, heldOutPrompts?.file].filter((file) => file !== undefined);
  return [
    ...(found === undefined ? [`model ${model}`] : []),
    ...(found !== undefined && found.fault !== "" ? [`a whole ${model} (${found.fault})`] : []),
    ...files.filter((file) => !trainer.promptFiles.includes(file)).map((file) => `prompts ${file}`),
    ...[...rewards, ...panel?.rewards ?? []].flatMap((term) => {
      const { name = "", endpoint = "", reward = "" } = term;
      const one = servedAs(term, served);
      const label = `reward ${name || reward}`;
      if (one !== undefined) return one.service.ready ? [] : [`${label} (does not answer)`];
      // Of an address that the gateway does not know the estimate tells.
      return endpoint === "" && !trainer.rewards.includes(name || reward) ? [label] : [];
    }),
  ];
}
