import assert from "node:assert/strict";
import { RewardConfigError } from "./errors.ts";
import { parseRewardConfig } from "./parse_reward_config.ts";

Deno.test("parseRewardConfig() fills in defaults", () => {
  assert.deepEqual(parseRewardConfig({ kind: "jpeg" }), {
    kind: "jpeg",
    quality: 50,
    subsampling: "4:2:0",
    mode: "cubic",
  });
  assert.deepEqual(parseRewardConfig({ kind: "owlvit", weights: "w", name: "no-books" }), {
    kind: "owlvit",
    name: "no-books",
    weights: "w",
    query: "book",
    aggregation: "max",
    temperature: 0.25,
  });
});

Deno.test("parseRewardConfig() names field, what was found and what was expected", () => {
  const fails = (value: unknown, message: string) => {
    assert.throws(() => parseRewardConfig(value), (error) => {
      assert.ok(error instanceof RewardConfigError);
      assert.equal(error.message, message);
      return true;
    });
  };
  const kinds = "aesthetic, clip, hpsv2, jpeg, onnx, owlvit, pickscore, symmetry";
  fails({}, `Reward field "kind" is missing, expected one of ${kinds}`);
  fails({ kind: "beauty" }, `Reward field "kind" is "beauty", expected one of ${kinds}`);
  fails("clip", `Reward is "clip", expected an object with a kind, one of ${kinds}`);
  fails(
    { kind: "jpeg", quality: 101 },
    `Reward field "quality" is 101, expected 100 or less`,
  );
  fails({ kind: "jpeg", quality: 0 }, `Reward field "quality" is 0, expected 1 or more`);
  fails({ kind: "jpeg", quality: 7.5 }, `Reward field "quality" is 7.5, expected a whole number`);
  fails(
    { kind: "jpeg", mode: "soft" },
    `Reward field "mode" is "soft", expected one of cubic, constant-target, ste`,
  );
  fails({ kind: "clip" }, `Reward field "weights" is missing, expected text`);
  fails(
    { kind: "clip", weights: "" },
    `Reward field "weights" is "", expected text that is not empty`,
  );
  fails(
    { kind: "owlvit", weights: "w", temperature: 0 },
    `Reward field "temperature" is 0, expected more than 0`,
  );
  fails(
    { kind: "symmetry", quality: 3 },
    `Reward field "quality" is not known here`,
  );
});
