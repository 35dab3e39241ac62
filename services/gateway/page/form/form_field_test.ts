import assert from "node:assert/strict";
import { RunConfigSchema } from "../../../../proto/mod.ts";
import { MessageSchemas } from "../../../rpc/mod.ts";
import { openApiDocument } from "../../openapi.ts";
import { parseProtoComments } from "../../proto_comments.ts";
import type { Contract, Schema } from "../contract.ts";
import { fieldsOf, labelOf, sentences } from "./form_field.ts";

/** The contract as the page gets it. */
async function contractOf(): Promise<Contract> {
  const path = new URL("../../../../proto/drtune/trainer/v1/trainer.proto", import.meta.url);
  const schemas = new MessageSchemas(parseProtoComments([await Deno.readTextFile(path)]));
  schemas.message(RunConfigSchema);
  const text = JSON.stringify(openApiDocument([], { schemas, secured: false }));
  const { components }: { components: { schemas: Record<string, Schema> } } = JSON.parse(text);
  return { components };
}

Deno.test("Every field of a run's configuration is in the form by its kind, with the contract's comment", async () => {
  const contract = await contractOf();
  const kinds = (message: string) =>
    Object.fromEntries(fieldsOf(message, contract).map(({ name, kind }) => [name, kind]));
  const run = kinds("RunConfig");
  assert.deepEqual(Object.keys(run), RunConfigSchema.fields.map(({ localName }) => localName));
  assert.deepEqual(
    [run["model"], run["method"], run["rewards"], run["seed"], run["memoryLimit"], run["prompts"]],
    ["text", "message", "messages", "integer", "number", "message"],
  );
  const { earlyStop, stepRule, bias, concentration } = kinds("MethodConfig");
  assert.deepEqual([earlyStop, stepRule, bias, concentration], [
    ...["switch", "text", "number", "numbers"],
  ]);
  const { targets, rankPattern } = kinds("LoraConfig");
  assert.deepEqual([targets, rankPattern], ["texts", "map"]);

  const field = (message: string, name: string) =>
    fieldsOf(message, contract).find((field) => field.name === name);
  assert.deepEqual(field("GuidanceConfig", "gradient")?.choices, [
    "GUIDANCE_GRADIENT_BOTH",
    "GUIDANCE_GRADIENT_CONDITIONAL",
    "GUIDANCE_GRADIENT_NONE",
  ]);
  assert.deepEqual(field("RunConfig", "precision")?.choices, ["float32", "float16"]);
  assert.match(field("LoraConfig", "rank")?.help ?? "", /^1 to 4096\. Default 16/);
  assert.equal(field("RunConfig", "rewards")?.message, "RewardTerm");
});

Deno.test("Names become words, and of a comment the first sentence stands alone", () => {
  assert.equal(labelOf("inputStopGradient"), "Input stop gradient");
  assert.equal(labelOf("k"), "K");
  assert.deepEqual(sentences("Above 0. Default: 2.5e-5, e.g. 1.5."), [
    "Above 0.",
    "Default: 2.5e-5, e.g. 1.5.",
  ]);
  assert.deepEqual(sentences("AdamW."), ["AdamW.", ""]);
  assert.deepEqual(sentences("no end"), ["no end", ""]);
});
