import assert from "node:assert/strict";
import { FieldError } from "../errors.ts";
import { parseRunConfig } from "./mod.ts";

const MINIMAL = {
  model: "pipeline",
  prompts: Array.from({ length: 10 }, (_, i) => `prompt ${i}`),
  rewards: [{ name: "clip", endpoint: "localhost:1" }],
};

Deno.test("defaults are the paper's, filled in, and stay when read again", () => {
  const config = parseRunConfig(MINIMAL);
  assert.deepEqual(config.method, {
    name: "drtune",
    k: 5,
    m: 20,
    inputStopGradient: true,
    earlyStop: true,
  });
  assert.deepEqual(config.sampler, { kind: "ddpm", steps: 50, eta: 0 });
  assert.deepEqual(config.guidance, { scale: 7.5, gradient: "both" });
  assert.deepEqual(config.lora, {
    rank: 16,
    alpha: 16,
    targets: ["to_q", "to_k", "to_v", "to_out.0"],
    sampleScale: 1,
  });
  assert.deepEqual(config.drift, { kind: "l2", weight: 0, resetEvery: 0 });
  assert.deepEqual(config.panel, {
    every: 0,
    rewards: [],
    imagesPerPrompt: 2,
    minDiversity: 0.8,
    stop: false,
    falseAlarmRate: 0.05,
    scales: [],
  });
  assert.equal(config.optimizer.maxGradNorm, 0.1);
  assert.equal(config.heldOutPrompts.length, 8);
  assert.deepEqual(parseRunConfig(JSON.parse(JSON.stringify(config))), config);
  const draft = parseRunConfig({ ...MINIMAL, method: { name: "draft-t", m: 3 } });
  assert.deepEqual(parseRunConfig(draft).method, {
    name: "draft-t",
    inputStopGradient: false,
    earlyStop: false,
  });
});

Deno.test("a wrong field is named, with what was found and expected", () => {
  const refused = (fields: object, message: RegExp) =>
    assert.throws(
      () => parseRunConfig({ ...MINIMAL, ...fields }),
      (e) => e instanceof FieldError && message.test(e.message),
    );
  const { rewards: [reward] } = MINIMAL;
  refused({ model: undefined }, /^Field model is missing, expected text/);
  const terms = (fields: object) => ({ rewards: [{ ...reward, ...fields }] });
  refused(terms({ prompt: "{text}" }), /^Field rewards\.0\.prompt has "\{text\}", expected/);
  refused(terms({ prompt: "{2}" }), /^Field rewards\.0\.prompt names column 2/);
  refused(terms({ without: ["books"] }), /^Field rewards\.0\.without\.0 is "books"/);
  refused(terms({ zScore: true }), /^Field rewards\.0\.zScore is true with batch\.size 1/);
  refused(terms({ hinge: "high" }), /^Field rewards\.0\.hinge is "high"/);
  refused(
    { panel: { rewards: [{ name: "p", endpoint: "h:1", without: ["books"] }] } },
    /^Field panel\.rewards\.0\.without\.0 is "books"/,
  );
  refused({ panel: { rewards: [{ name: "p", endpoint: "h:1", hinge: 1 }] } }, /hinge is not known/);
  refused(
    { drift: { gate: 0.5 } },
    /^Field drift\.gate is 0\.5, expected none: rewards has none of/,
  );
  refused(
    { drift: { gate: 0.5 }, rewards: [reward, { name: "judge", endpoint: "h:2", weight: 0 }] },
    /^Field drift\.gate is 0\.5 with batch\.size 1, expected 2 or more/,
  );
  refused({ drift: { gate: 0 } }, /^Field drift\.gate is 0/);
  refused({ drift: { resetEvery: -1 } }, /^Field drift\.resetEvery is -1/);
  refused({ lora: { ema: 1 } }, /^Field lora\.ema is 1/);
  const judged = { every: 5, rewards: [{ name: "p", endpoint: "h:1" }] };
  const auto = { stop: "auto", panel: judged };
  refused({ ...auto, panel: {} }, /^Field panel\.every is 0, expected 1 or more: stop is "auto"/);
  refused(
    { ...auto, panel: { every: 5 } },
    /^Field panel\.rewards is \[\], expected a reward that/,
  );
  refused(
    { ...auto, heldOutPrompts: ["a", "b"] },
    /^Field heldOutPrompts has 2, expected 4 or more/,
  );
  refused({ panel: { scales: [0.5] } }, /^Field panel\.every is 0, .*panel\.scales, which needs/);
  refused({ panel: { ...judged, scales: [0] } }, /^Field panel\.scales\.0 is 0/);
  refused({ panel: { ...judged, falseAlarmRate: 1 } }, /^Field panel\.falseAlarmRate is 1/);
  refused({ stop: "soon" }, /^Field stop is "soon", expected/);
  assert.deepEqual(parseRunConfig({ ...MINIMAL, ...auto }).panel.scales, [0.75, 0.5, 0.25]);
  refused({ combine: "max" }, /^Field combine is "max", expected/);
  refused({ perturb: { copies: 3 } }, /^Field perturb\.noise is 0, expected more: 3 copies/);
  refused({ perturb: { copies: 0, noise: 1 } }, /^Field perturb\.copies is 0/);
  refused({ seed: -1 }, /^Field seed is -1/);
  refused({ method: { k: 60 } }, /^Field method\.k is 60, expected an integer of 1 to 50/);
  refused({ method: { m: 50 } }, /^Field method\.m is 50, expected an integer of 1 to 49/);
  refused({ method: { name: "ppo" } }, /^Field method\.name is "ppo", expected one of/);
  refused({ prompts: [] }, /^Field prompts is \[\]/);
  refused({ prompts: ["fox", "  "] }, /^Field prompts\.1 is "", expected/);
  refused({ rewards: [reward, reward] }, /^Field rewards is .*expected distinct names/);
  refused({ rewards: [{ ...reward, weight: 0 }] }, /^Field rewards is .*a weight other than 0/);
  refused({ sampler: { steps: 0 } }, /^Field sampler\.steps is 0/);
  refused({ batch: { size: 1024, accumulation: 65 } }, /^Field batch is .*at most 65536 images/);
  const panel = { every: 5, rewards: [{ name: "p", endpoint: "h:1" }] };
  refused(
    { panel: { rewards: [{ name: "clip", endpoint: "h:1" }] } },
    /^Field panel\.rewards has "clip" a second time, expected distinct names/,
  );
  refused(
    { panel: { ...panel, imagesPerPrompt: 3 }, heldOutPrompts: ["a"] },
    /^Field panel\.imagesPerPrompt makes 3 images of 1 held-out prompts, expected 4 or more/,
  );
  refused(
    { panel: { rewards: [{ name: "p", endpoint: "h:1", weight: 1 }] } },
    /^Field panel\.rewards\.0\.weight is not known here/,
  );
  const drift = { kind: "kl", weight: 1 };
  refused(
    { drift, sampler: { kind: "ddim" } },
    /^Field drift\.kind is "kl", expected "l2": .*ddim/,
  );
  refused({ drift, sampler: { kind: "dpmsolver++" } }, /^Field drift\.kind is "kl"/);
  parseRunConfig({ ...MINIMAL, drift, sampler: { kind: "ddim", eta: 0.5 } });
  refused({ drift: { kind: "tv" } }, /^Field drift\.kind is "tv", expected one of l2, kl/);
  refused(
    { precision: "half" },
    /^Field precision is "half", expected one of float32, float16/,
  );
  refused({ randomShift: -1 }, /^Field randomShift is -1/);
  refused({ learning_rate: 1 }, /^Field learning_rate is not known here/);
  assert.throws(() => parseRunConfig(3, { file: "c.json" }), /Field \(all\) of c\.json is 3/);
});

Deno.test("a configuration that was written and read again is the same to the letter", () => {
  const given = {
    model: "pipeline",
    prompts: ["a fox"],
    rewards: [{ name: "clip", endpoint: "h:1" }],
  };
  for (
    const config of [
      given,
      { ...given, lora: { sampleScale: 0.5, rank: 3 }, guidance: { gradient: "none" } },
      { ...given, sampler: { kind: "flow-euler", steps: 9 }, method: { name: "flowbp-lagrange" } },
    ]
  ) {
    const written = JSON.stringify(parseRunConfig(config));
    assert.equal(JSON.stringify(parseRunConfig(JSON.parse(written))), written);
  }
});

Deno.test("what compares the images of a batch is not cut into shards", () => {
  const parse = (fields: object) => () =>
    parseRunConfig({ ...MINIMAL, batch: { size: 4 }, ...fields });
  const shard = { images: 2 };
  const rewards = [{ name: "a", endpoint: "a:1", zScore: true }];
  assert.throws(parse({ shard, rewards }), {
    message: "Field shard.images is 2, expected 4: rewards.0.zScore compares all images of a batch",
  });
  const judges = [{ name: "a", endpoint: "a:1" }, { name: "b", endpoint: "b:1", weight: 0 }];
  assert.throws(parse({ shard, rewards: judges, drift: { weight: 1, gate: 0.5 } }), {
    message: "Field shard.images is 2, expected 4: drift.gate compares all images of a batch",
  });
  assert.doesNotThrow(parse({ shard: { images: 4 }, rewards }));
});

Deno.test("A mixture and a panel have at most 64 rewards", () => {
  const rewards = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ name: `r${i}`, endpoint: "localhost:1" }));
  const panel = (count: number) => ({ panel: { rewards: rewards(count) } });
  assert.equal(parseRunConfig({ ...MINIMAL, rewards: rewards(64) }).rewards.length, 64);
  assert.throws(() => parseRunConfig({ ...MINIMAL, rewards: rewards(65) }), /Field rewards /);
  assert.throws(() => parseRunConfig({ ...MINIMAL, ...panel(65) }), /Field panel\.rewards /);
});
