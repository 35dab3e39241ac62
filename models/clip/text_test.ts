import assert from "node:assert/strict";
import { Builder } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import {
  assertClose,
  readTensors,
  repositoryPath,
  withEngine,
  withPrefix,
} from "../../tests/models/mod.ts";
import { ConfigError } from "../config.ts";
import { WeightScope } from "../weight_scope.ts";
import { openWeights } from "../weights/mod.ts";
import { clipText, clipTextProjection, clipTextScope } from "./text.ts";
import { parseClipTextConfig } from "./text_config.ts";

// Values are PyTorch's in float64 (tests/models/make_model_goldens.py).
for (const name of ["text_gelu", "text_legacy_end"]) {
  Deno.test(`${name}: all states are PyTorch's`, () =>
    withEngine(async (engine) => {
      const path = repositoryPath(`tests/golden/models/${name}`);
      const json = JSON.parse(await Deno.readTextFile(`${path}/config.json`));
      const config = parseClipTextConfig(json, path);
      const weights = await openWeights(path);
      const values = readTensors(`tests/golden/models/${name}/values.safetensors`);
      const expected = withPrefix(values, "expected.");
      const { input_ids } = values;
      assert.ok(input_ids);
      const b = new Builder();
      const s = new WeightScope(b, weights);
      const { last, hidden, pooled } = clipText(
        clipTextScope(s),
        b.input("ids", input_ids),
        config,
      );
      const outputs = {
        last,
        ...Object.fromEntries(hidden.map((h, i) => [`hidden.${i}`, h])),
        ...("projected" in expected
          ? { projected: clipTextProjection(s, pooled, config) }
          : { pooled }),
      };
      assert.deepEqual(Object.keys(outputs).sort(), Object.keys(expected).sort());
      const bytes = serialize(b, outputs);
      const session = await engine.load({ bytes, weightsRoot: weights.root });
      const actual = await session.run({ ids: input_ids });
      for (const [what, value] of Object.entries(expected)) {
        assertClose(actual[what], value, { tolerance: 1e-5, what });
      }
    }));
}

Deno.test("more tokens than positions are refused", async () => {
  const path = repositoryPath("tests/golden/models/text_gelu");
  const json = JSON.parse(await Deno.readTextFile(`${path}/config.json`));
  const config = parseClipTextConfig(json, path);
  const b = new Builder();
  const s = new WeightScope(b, await openWeights(path));
  const ids = b.input("ids", { dtype: "int64", shape: [1, 10] });
  assert.throws(
    () => clipText(clipTextScope(s), ids, config),
    /Token ids have shape \[1,10\], expected \[batch, at most 9\]/,
  );
});

Deno.test("a text tower's config is checked field by field", () => {
  const refused = (value: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => parseClipTextConfig(value, "c.json"), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, message);
      return true;
    });
  refused({ hidden_act: "relu" }, /^Config c.json: "hidden_act" is "relu", expected "quick_gelu"/);
  refused({ eos_token_id: [1, 2] }, /"eos_token_id" is \[1,2\], expected one token id/);
  refused({ num_attention_heads: 7 }, /"num_attention_heads" is 7, expected a divisor of hidden_/);
  refused({ rope_theta: 1 }, /"rope_theta" is not known here/);
  refused({ vocab_size: 0 }, /"vocab_size" is 0, expected a whole number above 0/);
  assert.equal(parseClipTextConfig({ _name_or_path: "x", dropout: 0.1 }, "c.json").width, 512);
});
