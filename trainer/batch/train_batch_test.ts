import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import {
  METHOD_NAMES,
  type MethodOptions,
  METHODS,
  resolveMethod,
  selectSteps,
  type StepSelection,
} from "../methods/mod.ts";
import { parseConfig } from "../parse_config.ts";
import {
  closedForm,
  DISCRETE_SAMPLER_KINDS,
  flowSchedulerConfigSchema,
  makeSampler,
  type Sampler,
  schedulerConfigSchema,
  stopAt,
} from "../samplers/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import {
  add,
  detach,
  type Dual,
  dual,
  dualLoss,
  dualOutput,
  dualParameters,
  mul,
  quadraticReward,
} from "../testing/dual.ts";
import { FakeNetworks } from "../testing/fake_networks.ts";
import {
  type BatchResult,
  type Drift,
  DRIFT_KINDS,
  driftFactor,
  type Guidance,
  GUIDANCE_GRADIENTS,
  GuidedDenoiser,
  hasTransitionNoise,
  seededNoise,
  trainBatch,
} from "./mod.ts";

const PROMPTS = ["a fox", "books!!!"];
const SIZE = { channels: 1, height: 2, width: 2 };
const images = PROMPTS.map((_, image) => ({ seed: 1, iteration: 3, image }));
const noise = seededNoise(images, SIZE);
interface Options {
  readonly sampler: Sampler;
  readonly selection: StepSelection;
  readonly guidance: Guidance;
  readonly drift?: Drift;
}

function run(options: Options): Promise<BatchResult> {
  return trainBatch(new FakeNetworks(), {
    ...options,
    prompts: PROMPTS,
    noise,
    reward: quadraticReward,
  });
}

/** Another model than that of `FakeNetworks` as it comes. */
const frozen = new FakeNetworks();
frozen.parameters = { a: float32([0.2]), w: float32([0.5, 0.6]) };

/** The same step by forward-mode differentiation: the paper's algorithm 1, with `detach` where it says sg. */
function derivative({ sampler, selection, guidance, drift }: Options, parameter: number): Dual {
  const trained = dualParameters(new FakeNetworks(), parameter);
  const fixed = dualParameters(frozen);
  const output = (x: Dual, prompt: string, timestep: number, parameters = trained) =>
    dualOutput(parameters, { x, prompt, timestep, guidance });
  const T = sampler.steps.length;
  const reached = selection.trainSteps.filter((t) => t >= selection.tMin);
  let loss = dual(0);
  const value = (x0: Dual, i: number) => loss = add(loss, dualLoss(x0, i));
  noise.initial().data.forEach((initial, i) => {
    const prompt = PROMPTS[Math.floor(i / 4)] ?? "";
    let [x, m] = [dual(initial), dual(0)];
    let x0: Dual | undefined;
    for (const [s, { timestep, clean, next }] of sampler.steps.entries()) {
      const t = T - s;
      const o = output(selection.inputStopGradient ? detach(x) : x, prompt, timestep);
      const kept = selection.trainSteps.includes(t) ? o : detach(o);
      if (drift && drift.kind !== "norm" && reached.includes(t)) {
        const d = add(
          output(detach(x), prompt, timestep),
          mul(-1, detach(output(x, prompt, timestep, fixed))),
        );
        const step = sampler.steps[s];
        assert.ok(step);
        const factor = drift.weight * driftFactor(drift.kind, step) / (reached.length * 8);
        loss = add(loss, mul(factor, mul(d, d)));
      }
      const prediction = add(mul(clean.x, x), mul(clean.output, kept));
      if (t === selection.tMin) {
        x0 = prediction;
        break;
      }
      const n = dual(next.noise * (noise.step(s)[i] ?? 0));
      x = add(mul(next.x, x), mul(next.output, kept), mul(next.previous, m), n);
      m = prediction;
    }
    const end = x0 ?? x;
    value(end, i);
    const last = sampler.steps.at(-1);
    for (let j = 0; last && j < selection.redraws; j++) {
      const x1 = dual(last.alpha * end.v + last.sigma * (noise.redraw(j)[i] ?? 0));
      value(
        add(mul(last.clean.x, x1), mul(last.clean.output, output(x1, prompt, last.timestep))),
        i,
      );
    }
  });
  return loss;
}

const config = (fields: object = {}) =>
  parseConfig(schedulerConfigSchema, {
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    timestep_spacing: "leading",
    steps_offset: 1,
    ...fields,
  });

const flat = ({ gradients }: BatchResult) =>
  Object.values(gradients).flatMap(({ data }) => [...data]);

async function assertExact(options: Options) {
  const result = await run(options);
  const actual = flat(result);
  const expected = [0, 1, 2].map((p) => derivative(options, p).d);
  if (options.drift !== undefined) {
    const loss = result.evaluation.loss + options.drift.weight * (result.drift ?? NaN);
    const { v } = derivative(options, 0);
    assert.ok(Math.abs(loss - v) < 1e-5 * Math.abs(v), `loss ${loss}, expected ${v}`);
  }
  // Nothing reaches a trained step where the clean sample is predicted from a detached input.
  const largest = Math.max(...expected.map(Math.abs)) || 1;
  assert.equal(actual.length, 3);
  actual.forEach((v, i) => {
    const error = Math.abs(v - (expected[i] ?? NaN)) / largest;
    assert.ok(error < 3e-6, `${JSON.stringify(options.selection)}: ${actual} against ${expected}`);
  });
}

const SELECTIONS: readonly Omit<StepSelection, "inputStopGradient">[] = [
  { trainSteps: [1, 3, 5], tMin: 0, redraws: 0 },
  { trainSteps: [2, 4, 6], tMin: 4, redraws: 0 },
  { trainSteps: [2, 5], tMin: 3, redraws: 0 },
  { trainSteps: [3], tMin: 3, redraws: 0 },
  { trainSteps: [1, 2, 3, 4, 5, 6], tMin: 0, redraws: 0 },
  { trainSteps: [1], tMin: 0, redraws: 2 },
];

Deno.test("gradients are exact for every sampler, kind of prediction and selection", async () => {
  const guidance = { scale: 3, gradient: "both" } as const;
  for (const kind of DISCRETE_SAMPLER_KINDS) {
    for (const prediction_type of ["epsilon", "v_prediction", "sample"]) {
      const sampler = makeSampler(
        { kind, steps: 6, eta: kind === "ddim" ? 0.5 : 0 },
        config({ prediction_type }),
      );
      for (const selection of SELECTIONS) {
        for (const inputStopGradient of [true, false]) {
          await assertExact({ sampler, selection: { ...selection, inputStopGradient }, guidance });
        }
      }
    }
  }
});

Deno.test("gradients are exact on flows: Euler's, stochastic, the multistep solver, every selection", async () => {
  const guidance = { scale: 4.5, gradient: "both" } as const;
  const scheduler = (config: object) => ({
    ...parseConfig(flowSchedulerConfigSchema, { shift: 3, ...config }),
    family: "sd3" as const,
    tokens: 16,
  });
  const samplers = [
    makeSampler({ kind: "flow-euler", steps: 6 }, scheduler({})),
    makeSampler({ kind: "flow-euler", steps: 6 }, scheduler({ stochastic_sampling: true })),
    makeSampler({ kind: "dpmsolver++", steps: 6 }, scheduler({})),
  ];
  for (const sampler of samplers) {
    for (const selection of SELECTIONS) {
      for (const inputStopGradient of [true, false]) {
        await assertExact({ sampler, selection: { ...selection, inputStopGradient }, guidance });
      }
    }
  }
});

Deno.test("gradients are exact for every way through guidance", async () => {
  const sampler = makeSampler({ kind: "dpmsolver++", steps: 6 }, config());
  for (const gradient of GUIDANCE_GRADIENTS) {
    for (const scale of [1, 5]) {
      for (const inputStopGradient of [true, false]) {
        const selection = { trainSteps: [1, 3, 4], tMin: 0, redraws: 0, inputStopGradient };
        await assertExact({ sampler, selection, guidance: { scale, gradient } });
      }
    }
  }
});

Deno.test("with one trained step the input stop-gradient makes no difference", async () => {
  const sampler = makeSampler({ kind: "ddpm", steps: 6 }, config());
  const guidance = { scale: 7.5, gradient: "both" } as const;
  const [a, b] = await Promise.all(
    [true, false].map((inputStopGradient) =>
      run({
        sampler,
        guidance,
        selection: { trainSteps: [3], tMin: 3, redraws: 0, inputStopGradient },
      })
    ),
  );
  assert.ok(a && b);
  flat(a).forEach((v, i) => assert.ok(Math.abs(v - (flat(b)[i] ?? NaN)) < 1e-6 * Math.abs(v)));
});

Deno.test("the K products of the closed form run as one batch, unconditional rows first", async () => {
  const networks = new FakeNetworks();
  const sampler = makeSampler({ kind: "ddpm", steps: 6 }, config());
  const selection = { trainSteps: [1, 3, 5], tMin: 0, redraws: 0, inputStopGradient: true };
  const guidance = { scale: 2, gradient: "both" } as const;
  await trainBatch(networks, {
    sampler,
    selection,
    guidance,
    prompts: PROMPTS,
    noise,
    reward: quadraticReward,
  });
  assert.deepEqual(networks.differentiated, [3 * 2 * 2]);
  assert.deepEqual(networks.predicted, new Array(6).fill(2 * 2));
  networks.differentiated.length = 0;
  const conditional = { scale: 2, gradient: "conditional" } as const;
  await trainBatch(networks, {
    sampler,
    selection,
    guidance: conditional,
    prompts: PROMPTS,
    noise,
    reward: quadraticReward,
  });
  assert.deepEqual(networks.differentiated, [3 * 2]);
});

Deno.test("an image does not depend on its batch", () => {
  const alone = seededNoise(images.slice(1), SIZE);
  assert.deepEqual([...alone.initial().data], [...noise.initial().data.subarray(4)]);
  assert.deepEqual([...alone.step(2)], [...noise.step(2).subarray(4)]);
  assert.notDeepEqual([...noise.step(2)], [...noise.step(3)]);
});

Deno.test("a step ends at the next network when it is cancelled, and where a probe throws", async () => {
  const sampler = makeSampler({ kind: "ddpm", steps: 6 }, config());
  const selection = { trainSteps: [1], tMin: 0, redraws: 0, inputStopGradient: true };
  const guidance = { scale: 1, gradient: "both" } as const;
  const networks = new FakeNetworks();
  const options = {
    sampler,
    selection,
    guidance,
    prompts: PROMPTS,
    noise,
    reward: quadraticReward,
  };
  const signal = AbortSignal.abort(new Error("Stopped"));
  await assert.rejects(trainBatch(networks, { ...options, signal }), /Stopped/);
  assert.deepEqual(networks.predicted, []);
  const probe = (name: string) => {
    if (name === "eps.2") throw new Error("Seen eps.2");
  };
  await assert.rejects(trainBatch(networks, { ...options, probe }), /Seen eps\.2/);
  assert.equal(networks.predicted.length, 3);
});

Deno.test("the penalty on drift is exact for every kind, sampler, prediction, guidance and selection", async () => {
  for (const kind of DRIFT_KINDS.filter((kind) => kind !== "norm")) {
    for (const prediction_type of ["epsilon", "v_prediction"]) {
      for (const [name, eta] of [["ddpm", 0], ["ddim", 0.5], ["dpmsolver++", 0]] as const) {
        const sampler = makeSampler({ kind: name, steps: 6, eta }, config({ prediction_type }));
        if (kind === "kl" && !hasTransitionNoise(sampler)) continue;
        for (const gradient of GUIDANCE_GRADIENTS) {
          for (const inputStopGradient of [true, false]) {
            const selection = { trainSteps: [1, 3, 5], tMin: 2, redraws: 0, inputStopGradient };
            const drift = { kind, weight: 3, frozen: frozen.denoiser };
            await assertExact({ sampler, selection, guidance: { scale: 3, gradient }, drift });
          }
        }
      }
    }
  }
});

Deno.test("drift is nothing beside the model itself, and a step without noise has no divergence", async () => {
  const sampler = makeSampler({ kind: "ddpm", steps: 6 }, config());
  const selection = { trainSteps: [1, 4], tMin: 0, redraws: 0, inputStopGradient: true };
  const guidance = { scale: 2, gradient: "both" } as const;
  const same = new FakeNetworks().denoiser;
  const plain = await run({ sampler, selection, guidance });
  const none = await run({
    sampler,
    selection,
    guidance,
    drift: { kind: "l2", weight: 5, frozen: same },
  });
  assert.equal(plain.drift, undefined);
  assert.equal(none.drift, 0);
  assert.deepEqual(none.gradients, plain.gradients);
  const last = { ...selection, trainSteps: [1] };
  const drift = { kind: "kl", weight: 5, frozen: frozen.denoiser } as const;
  assert.equal((await run({ sampler, selection: last, guidance, drift })).drift, 0);
  assert.ok(!hasTransitionNoise(makeSampler({ kind: "ddim", steps: 6 }, config())));
});

/** Draws that come out as high as they may, up to `most`. */
const drawn = (most: number) => ({
  integer: (_: number, high: number) => Math.min(most, high),
  uniform: () => 0.5,
  normal: () => 0,
});

/** A step of a method over six sampling steps. */
async function stepOf(method: MethodOptions, most = 4) {
  const sampler = makeSampler({ kind: "ddpm", steps: 6 }, config());
  const chosen = selectSteps(resolveMethod(method, 6), { T: 6, random: drawn(most) });
  const guidance = { scale: 3, gradient: "both" } as const;
  return {
    sampler,
    selection: chosen,
    guidance,
    result: await run({ sampler, selection: chosen, guidance }),
  };
}

Deno.test("DRaFT-K with K = T is DRaFT-T, and AlignProp that draws T", async () => {
  for (const inputStopGradient of [true, false]) {
    const t = await stepOf({ name: "draft-t", inputStopGradient });
    const k = await stepOf({ name: "draft-k", k: 6, inputStopGradient });
    const align = await stepOf({ name: "alignprop", inputStopGradient }, 6);
    assert.deepEqual(k.result.gradients, t.result.gradients);
    assert.deepEqual(align.result.gradients, t.result.gradients);
    const fewer = await stepOf({ name: "draft-k", k: 5, inputStopGradient });
    assert.notDeepEqual(fewer.result.gradients, t.result.gradients);
  }
});

Deno.test("ReFL is DRTune that trains one step and stops there", async () => {
  for (const t of [1, 2, 4]) {
    const refl = await stepOf({ name: "refl", m: 4 }, t);
    const drtune = await stepOf({ name: "drtune", k: 1, m: 4 }, t);
    assert.deepEqual(refl.selection.trainSteps, [t]);
    assert.deepEqual({ ...refl.selection, inputStopGradient: true }, drtune.selection);
    const [a, b] = [flat(refl.result), flat(drtune.result)];
    a.forEach((v, i) => assert.ok(Math.abs(v - (b[i] ?? NaN)) < 1e-6 * Math.abs(v), `${a} ${b}`));
  }
});

Deno.test("every method with stop-gradient is the closed form, its products run one by one", async () => {
  for (const name of METHOD_NAMES) {
    // Others have forms of their own: straight_through_test.ts.
    if (METHODS[name].trains === "surrogate") continue;
    const { sampler, selection, guidance } = await stepOf({ name, inputStopGradient: true });
    const stopped = selection.tMin === 0 ? sampler : stopAt(sampler, 6 - selection.tMin);
    const seen: Record<string, Float32Tensor> = {};
    const networks = new FakeNetworks();
    const { gradients } = await trainBatch(networks, {
      sampler,
      selection: { ...selection, redraws: 0 },
      guidance,
      prompts: PROMPTS,
      noise,
      reward: quadraticReward,
      probe: (name, tensor) => seen[name] = tensor,
    });
    const conditioning = await networks.prompts.encode(PROMPTS);
    const denoiser = new GuidedDenoiser(networks.denoiser, { ...conditioning, guidance });
    const kappa = closedForm(stopped);
    const sum = [0, 0, 0];
    let products = 0;
    for (const [i, { timestep }] of stopped.steps.entries()) {
      if (!selection.trainSteps.includes(6 - i)) continue;
      products++;
      const x = seen[`x.${i}`];
      assert.ok(x && seen.x0_grad);
      const cotangent = Float64Array.from(seen.x0_grad.data, (g) => (kappa[i] ?? NaN) * g);
      const one = await denoiser.vjp([{ x, timestep, cotangent }], { input: false });
      Object.values(one.parameters).flatMap(({ data }) => [...data])
        .forEach((g, p) => sum[p] = (sum[p] ?? 0) + g);
    }
    assert.ok(products > 0, name);
    const actual = Object.values(gradients).flatMap(({ data }) => [...data]);
    const largest = Math.max(...sum.map(Math.abs));
    actual.forEach((g, p) => assert.ok(Math.abs(g - (sum[p] ?? NaN)) < 1e-6 * largest, name));
  }
});
