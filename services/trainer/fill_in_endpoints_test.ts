import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { RewardTermSchema } from "../../proto/mod.ts";
import { fillInEndpoints } from "./fill_in_endpoints.ts";

const addresses = new Map([["clip", "127.0.0.1:1"], ["jpeg", "127.0.0.1:2"]]);
const term = (fields: { name?: string; reward?: string; endpoint?: string }) =>
  create(RewardTermSchema, fields);

Deno.test("fillInEndpoints takes addresses by name and leaves given ones alone", () => {
  const terms = [term({ name: "clip" }), term({ reward: "jpeg" }), term({ endpoint: "b:9" })];
  fillInEndpoints(terms, { addresses, field: "config.rewards" });
  assert.deepEqual(terms.map((t) => t.endpoint), ["127.0.0.1:1", "127.0.0.1:2", "b:9"]);
});

Deno.test("fillInEndpoints names the term it has no address for", () => {
  const options = { addresses, field: "config.rewards" };
  assert.throws(() => fillInEndpoints([term({ name: "clip" }), term({ name: "hps" })], options), {
    message: /config\.rewards\.1\.endpoint.*"hps".*clip, jpeg/,
  });
  assert.throws(
    () => fillInEndpoints([term({ name: "hps" })], { ...options, addresses: new Map() }),
    { message: /knows no reward by name/ },
  );
});
