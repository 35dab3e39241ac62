import { ApiError, json, request } from "../api.ts";
import { type Contract, readContract } from "../contract.ts";
import { faultText } from "../dialog.ts";
import { button, field, h, replace, say } from "../dom.ts";
import { ConfigDraft } from "../form/config_draft.ts";
import { configForm } from "../form/config_form.ts";
import type { FormPart } from "../form/form_context.ts";
import { PresetList } from "../form/preset_list.ts";
import { RunEstimate } from "../form/run_estimate.ts";
import { YamlEditor } from "../form/yaml_editor.ts";
import type { Preset, RunConfig, TrainerDescription } from "../types.ts";
import type { View, ViewContext } from "./view.ts";

/** Starts a run from a preset or a configuration of one's own, by a form and by its text. */
export function newRunView({ overview, signal }: ViewContext): View {
  const id = h("input", {
    type: "text",
    value: `run-${new Date().toISOString().slice(0, 16).replaceAll(/[-:]/g, "").replace("T", "-")}`,
    pattern: "[a-z0-9][a-z0-9._\\-]{0,63}",
    spellcheck: "false",
    autocomplete: "off",
  });
  const draft = new ConfigDraft(signal);
  const editor = new YamlEditor(draft);
  const estimate = new RunEstimate(signal);
  const refused = h("p", { class: "fault", role: "alert" });
  const place = h("fieldset", { class: "form-place" }, h("p", { class: "empty" }, "Loading…"));
  const presets = new PresetList(({ yaml }) => {
    void draft.begin(yaml);
  });
  let form: FormPart | undefined;

  draft.addEventListener("change", () => {
    editor.update();
    // The form shows the last configuration that could be read.
    place.disabled = draft.fault !== undefined;
    form?.update();
    if (draft.fault === undefined) void estimate.ask(draft.config);
  }, { signal });
  estimate.addEventListener("change", () => form?.update(), { signal });
  let { services } = overview;
  overview.addEventListener("change", () => {
    if (overview.services === services) return;
    services = overview.services;
    form?.update();
    // What was missing may be there.
    if (draft.fault === undefined) void estimate.ask(draft.config, { again: true });
  }, { signal });

  const start = async () => {
    say(refused, "");
    // What is no number is not in the configuration: it would start without it.
    const wrong = place.querySelector<HTMLElement>("input:invalid, textarea:invalid");
    wrong?.focus();
    if (wrong) return say(refused, "Mend the marked field first.");
    if (!await draft.settle()) {
      const { away } = draft;
      return say(
        refused,
        away === undefined
          ? "Mend the configuration first."
          : `${away} Your changes are kept: start the run when it is back.`,
      );
    }
    try {
      await request("/v1/runs", { body: { runId: id.value, config: withoutEmpty(draft.config) } });
      location.hash = `#/runs/${id.value}`;
    } catch (error) {
      say(refused, faultText(error));
      const wrongName = error instanceof ApiError && error.field === "runId";
      id.ariaInvalid = String(wrongName);
      if (wrongName) id.focus();
    }
  };

  Promise.all([
    readContract<Contract>(signal),
    json<TrainerDescription>("/v1/trainer", { signal }),
    json<{ presets: Preset[] }>("/v1/presets", { signal }),
    overview.whenReady(signal),
  ]).then(([contract, trainer, { presets: known }]) => {
    form = configForm({
      draft,
      contract,
      trainer,
      services: () => overview.services,
      planned: () => estimate.planned,
      faultOf: (path) => estimate.faultOf(path),
    });
    replace(place, h("legend", { class: "covered" }, "Configuration by fields"), form.element);
    presets.show(known, { trainer, services: overview.services });
    const { first } = presets;
    if (first && draft.text === "") presets.choose(first);
    else form.update();
  }, (error) => {
    if (!signal.aborted) replace(place, h("p", { class: "fault" }, faultText(error)));
  });
  return {
    title: "Start a run",
    content: [
      h("a", { class: "back", href: "#/runs" }, "All runs"),
      h("div", { class: "page-head" }, h("h1", {}, "Start a run")),
      h(
        "section",
        { class: "preset-section", "aria-label": "Presets" },
        h("h2", {}, "Start from"),
        presets.element,
      ),
      h(
        "div",
        { class: "new-run" },
        h(
          "div",
          {},
          field(
            "Name",
            id,
            "1 to 64 of a-z, 0-9, “.”, “_”, “-”. The same name with the same configuration is the same run.",
          ),
          place,
        ),
        h(
          "div",
          { class: "beside" },
          estimate.element,
          h("div", { class: "actions" }, button("Start", start, { class: "primary" })),
          refused,
          h("h2", {}, "The same as YAML"),
          editor.element,
        ),
      ),
    ],
  };
}

/** What was not said is not sent, so that it takes its default. */
function withoutEmpty(config: RunConfig): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(config).filter(([, value]) =>
      value !== "" && !(Array.isArray(value) && value.length === 0)
    ),
  );
}
