import { h } from "../dom.ts";
import type { TrainerDescription } from "../types.ts";
import { boundField, type Option } from "./bound_field.ts";
import { type FieldPath, valueAt } from "./config_draft.ts";
import type { FormContext, FormPart } from "./form_context.ts";
import { fieldsOf, type FormField } from "./form_field.ts";
import { promptSource } from "./prompt_source.ts";
import { rewardTerms } from "./reward_terms.ts";

/** Which fields of RunConfig stand together. What the contract has besides stands at the end. */
const SECTIONS: readonly { readonly title: string; readonly fields: readonly string[] }[] = [
  {
    title: "Model",
    fields: ["model", "precision", "latentHeight", "latentWidth", "memoryLimit"],
  },
  { title: "Method", fields: ["method"] },
  { title: "Prompts", fields: ["prompts", "heldOutPrompts"] },
  { title: "Rewards", fields: ["rewards", "randomShift"] },
  { title: "Training", fields: ["iterations", "batch", "seed", "optimizer", "drift"] },
  { title: "Sampler and guidance", fields: ["sampler", "guidance"] },
  { title: "LoRA", fields: ["lora"] },
  { title: "Panel", fields: ["panel"] },
  { title: "Samples and checkpoints", fields: ["sampleEvery", "checkpointEvery"] },
];

/** Open from the start: what every run decides. */
const OPEN = 4;

/** All fields of a run's configuration, by sections. */
export function configForm(context: FormContext): FormPart {
  const fields = new Map(fieldsOf("RunConfig", context.contract).map((f) => [f.name, f]));
  const named = new Set(SECTIONS.flatMap((section) => section.fields));
  const others = [...fields.keys()].filter((name) => !named.has(name));
  const sections = [...SECTIONS, { title: "More", fields: others }]
    .map(({ title, fields: names }, i) => {
      const own = names.map((name) => fields.get(name)).filter((field) => field !== undefined);
      const parts = own.map((field) => part(field, [field.name], context, own.length === 1));
      const element = h(
        "details",
        { class: "form-section", open: i < OPEN },
        h("summary", {}, title),
        h("div", { class: "fields" }, ...parts.map(({ element }) => element)),
      );
      return { element, parts };
    })
    .filter(({ parts }) => parts.length > 0);
  return {
    element: h("div", { class: "config-form" }, ...sections.map(({ element }) => element)),
    update() {
      for (const { element, parts } of sections) {
        for (const part of parts) part.update();
        // What is wrong must not be out of sight.
        if (element.querySelector(".fault:not(:empty)")) element.open = true;
      }
    },
  };
}

/** @param alone whether it is all of its section, whose title is its own */
function part(
  field: FormField,
  path: FieldPath,
  context: FormContext,
  alone = false,
): FormPart {
  if (field.message === "PromptSource") return promptSource({ field, path }, context);
  if (field.kind === "messages") return rewardTerms({ field, path }, context);
  if (field.kind === "message") return group(field, { path, alone }, context);
  const options = OPTIONS[path.join(".")];
  return boundField({
    field,
    path,
    ...(options && { options: () => options(context) }),
  }, context);
}

/** The fields of a message inside of the configuration; of a method those that it has. */
function group(
  { name, label, message, help }: FormField,
  { path, alone }: { readonly path: FieldPath; readonly alone: boolean },
  context: FormContext,
): FormPart {
  const parts = fieldsOf(message, context.contract).map((field) => ({
    name: field.name,
    part: part(field, [...path, field.name], context),
  }));
  const element = h(
    "fieldset",
    { class: "group" },
    h("legend", { class: alone ? "covered" : "field-label" }, label),
    h("p", { class: "hint" }, help),
    h("div", { class: "fields" }, ...parts.map(({ part }) => part.element)),
  );
  return {
    element,
    update() {
      for (const { name: field, part } of parts) {
        part.update();
        if (name === "method") part.element.hidden = !isOfMethod(field, context);
      }
    },
  };
}

/** Whether a field is the chosen method's, or is set although it is not, which the plan refuses. */
function isOfMethod(field: string, { draft, trainer }: FormContext): boolean {
  const chosen = String(valueAt(draft.config, ["method", "name"]) || "drtune");
  const method = trainer.methods.find(({ name }) => name === chosen);
  if (field === "name" || method === undefined || method.parameters.includes(field)) return true;
  const value = valueAt(draft.config, ["method", field]);
  return value !== undefined && !(Array.isArray(value) && value.length === 0);
}

/** Fields whose values the trainer knows. */
const OPTIONS: Readonly<Record<string, (context: FormContext) => readonly Option[]>> = {
  model: ({ trainer }) =>
    trainer.models.map(({ path, pipeline, fault }) => ({
      value: path,
      label: fault === "" ? `${path} (${pipeline})` : `${path} (cannot be used: ${fault})`,
    })),
  "method.name": ({ trainer }) => trainer.methods.map(({ name }) => ({ value: name, label: name })),
  "sampler.kind": ({ trainer, draft }) =>
    samplersOf(trainer, draft.config.model).map((kind) => ({ value: kind, label: kind })),
};

/** Samplers that a model takes; of an unknown one those that any takes. */
function samplersOf({ models }: TrainerDescription, model: string | undefined): readonly string[] {
  const known = models.find(({ path }) => path === model);
  if (known !== undefined) return known.samplers;
  return [...new Set(models.flatMap(({ samplers }) => samplers))];
}
