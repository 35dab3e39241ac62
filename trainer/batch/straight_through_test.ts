import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { z } from "zod";
import { FieldError } from "../errors.ts";
import {
  type StepSelection,
  straightThroughSelection,
  type SurrogateParameters,
} from "../methods/mod.ts";
import { parseConfig } from "../parse_config.ts";
import {
  closedForm,
  flowSchedulerConfigSchema,
  makeSampler,
  odePath,
  quadratureWeights,
  type Sampler,
  schedulerConfigSchema,
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
import { type Guidance, seededNoise, straightThrough, trainBatch } from "./mod.ts";

const PROMPTS = ["a fox", "books!!!"];
const noise = seededNoise(
  PROMPTS.map((_, image) => ({ seed: 1, iteration: 3, image })),
  { channels: 1, height: 2, width: 2 },
);
const GUIDANCE = { scale: 4.5, gradient: "both" } as const;
const T = 9;

const flow = (fields: object = {}) =>
  makeSampler({ kind: "flow-euler", steps: T }, {
    ...parseConfig(flowSchedulerConfigSchema, { shift: 3, ...fields }),
    family: "flux" as const,
    tokens: 16,
  });
const diffusion = (kind: "ddpm" | "ddim" | "dpmsolver++", fields: object = {}) =>
  makeSampler(
    { kind, steps: T },
    parseConfig(schedulerConfigSchema, {
      beta_start: 0.00085,
      beta_end: 0.012,
      beta_schedule: "scaled_linear",
      set_alpha_to_one: false,
      ...fields,
    }),
  );

async function run(
  sampler: Sampler,
  { selection, guidance = GUIDANCE }: {
    readonly selection: StepSelection;
    readonly guidance?: Guidance;
  },
) {
  const networks = new FakeNetworks();
  const seen: Record<string, Float32Tensor> = {};
  const { gradients } = await trainBatch(networks, {
    sampler,
    selection,
    guidance,
    prompts: PROMPTS,
    noise,
    reward: quadraticReward,
    probe: (name, tensor) => seen[name] = tensor,
  });
  const flat = Object.values(gradients).flatMap(({ data }) => [...data]);
  assert.equal(flat.length, 3);
  return { gradients: flat, seen, networks };
}

/** Value of `target`, gradient of `prediction`. */
const straight = (prediction: Dual, target: Dual): Dual => dual(target.v, prediction.d);
/** The value, the gradient times a factor. */
const damped = (a: Dual, factor: number): Dual => dual(a.v, factor * a.d);

interface Definition extends SurrogateParameters {
  readonly active?: readonly number[];
  readonly k?: number;
  readonly j?: number;
}

/** The loss and its derivative by the methods' definitions (FlowBP's autograd), one parameter at a time. */
function derivative(
  sampler: Sampler,
  { definition, selection, parameter, guidance = GUIDANCE }: {
    readonly definition: Definition;
    readonly selection: StepSelection;
    readonly parameter: number;
    readonly guidance?: Guidance;
  },
): number {
  const { steps } = sampler;
  const parameters = dualParameters(new FakeNetworks(), parameter);
  const { active = [], k, j, alpha = 1, rescale = 0, tau = 0 } = definition;
  const initial = [...noise.initial().data];
  const out = (x: Dual, element: number, i: number) =>
    dualOutput(parameters, {
      x,
      prompt: PROMPTS[Math.floor(element / 4)] ?? "",
      timestep: steps[i]?.timestep ?? NaN,
      guidance,
    });
  const outcomes = initial.map((first, element) => {
    // The rollout.
    const xs = [dual(first)];
    const vs: Dual[] = [];
    let m = dual(0);
    for (const [i, { next, clean }] of steps.entries()) {
      const x = xs[i] ?? assert.fail();
      const v = detach(out(x, element, i));
      vs.push(v);
      const n = next.noise * (noise.step(i)[element] ?? 0);
      xs.push(add(mul(next.x, x), mul(next.output, v), mul(next.previous, m), dual(n)));
      m = add(mul(clean.x, x), mul(clean.output, v));
    }
    const at = (list: readonly Dual[], i: number) => list[i] ?? assert.fail();
    const end = at(xs, T);
    if (k === undefined || j === undefined) {
      const kappa = closedForm(sampler).map(Math.abs);
      const sum = (indices: readonly number[]) => indices.reduce((s, i) => s + (kappa[i] ?? 0), 0);
      // Nothing reaches some steps where the clean sample is what is predicted.
      const rho = sum(active) < 1e-8
        ? 1
        : 1 + rescale * (sum(kappa.map((_, i) => i)) / sum(active) - 1);
      let y = at(xs, 0);
      let previous = dual(0);
      for (const [i, { next, clean }] of steps.entries()) {
        if (i === j) y = straight(y, at(xs, j));
        const input = i === j ? damped(y, alpha) : at(xs, i);
        const v = active.includes(i) ? damped(out(input, element, i), rho) : at(vs, i);
        const n = dual(next.noise * (noise.step(i)[element] ?? 0));
        const now = add(mul(clean.x, y), mul(clean.output, v));
        y = add(mul(next.x, y), mul(next.output, v), mul(next.previous, previous), n);
        previous = now;
      }
      return { z: straight(y, end), dj: 0, d0: 0 };
    }
    const { scale, time, rate } = odePath(sampler);
    const s = (i: number) => time[i] ?? NaN;
    const hop = (start: Dual, { input, a, b }: { input: Dual; a: number; b: number }) => {
      const supports = (b === T
        ? selection.surrogate?.bridge?.leaps?.second
        : selection.surrogate?.bridge?.leaps?.first) ??
        assert.fail();
      const indices = supports.supports.map((t) =>
        T - t
      );
      const trained = supports.active.map((t) => T - t);
      const weights = definition.weights === "uniform"
        ? indices.map(() => (s(b) - s(a)) / indices.length)
        : quadratureWeights(indices.map(s), s(a), s(b));
      const total = (only: readonly number[]) =>
        weights.reduce((sum, w, n) => sum + (only.includes(indices[n] ?? -1) ? Math.abs(w) : 0), 0);
      const rho = rescale === 0 ? 1 : 1 + rescale * (total(indices) / total(trained) - 1);
      const slope = (x: Dual, v: Dual, i: number) =>
        add(mul(rate[i]?.x ?? NaN, x), mul(rate[i]?.output ?? NaN, v));
      const own = slope(input, out(input, element, a), a);
      let moved = dual(0);
      for (const [n, i] of indices.entries()) {
        const x = at(xs, i);
        const v = !trained.includes(i)
          ? slope(x, at(vs, i), i)
          : i === a
          ? damped(own, rho)
          : damped(slope(x, out(x, element, i), i), rho * (definition.supportScale ?? 1));
        moved = add(moved, mul(weights[n] ?? NaN, v));
      }
      const y = mul(1 / (scale[a] ?? NaN), start);
      const to = scale[b] ?? NaN;
      return {
        whole: mul(to, add(y, moved)),
        euler: mul(to, add(y, mul(s(b) - s(a), own))),
      };
    };
    const { whole, euler } = hop(at(xs, k), { input: at(xs, k), a: k, b: j });
    const lambda = definition.anchor ?? 1;
    const pj = add(euler, mul(lambda, add(whole, mul(-1, euler))));
    const xj = straight(pj, at(xs, j));
    const p0 = hop(xj, { input: damped(xj, alpha), a: j, b: T }).whole;
    return {
      z: straight(p0, end),
      dj: Math.abs(pj.v - at(xs, j).v),
      d0: Math.abs(p0.v - end.v),
    };
  });
  let loss = dual(0);
  for (let image = 0; image < PROMPTS.length; image++) {
    const own = outcomes.slice(4 * image, 4 * image + 4);
    const mean = (key: "dj" | "d0") => own.reduce((sum, o) => sum + o[key], 0) / 4;
    const w = tau === 0 ? 1 : 1 / (Math.max(mean("dj"), tau) + Math.max(mean("d0"), tau));
    own.forEach(({ z }, i) => loss = add(loss, mul(w, dualLoss(z, 4 * image + i))));
  }
  return loss.d;
}

async function assertExact(sampler: Sampler, definition: Definition, guidance?: Guidance) {
  const selection = straightThroughSelection(definition, { ...definition, T });
  const { gradients } = await run(sampler, { selection, ...(guidance && { guidance }) });
  const expected = [0, 1, 2].map((parameter) =>
    derivative(sampler, { definition, selection, parameter, ...(guidance && { guidance }) })
  );
  const largest = Math.max(...expected.map(Math.abs)) || 1;
  gradients.forEach((g, i) => {
    const error = Math.abs(g - (expected[i] ?? NaN)) / largest;
    assert.ok(
      error < 5e-6,
      `${sampler.kind} ${JSON.stringify(definition)}: ${gradients} against ${expected}`,
    );
  });
}

const SPARSE = [
  { active: [2, 4, 7] },
  { active: [0, 8], rescale: 0.5 },
  { active: [5], rescale: 1 },
] as const;
const BRIDGES = [
  { active: [1, 3, 4, 6, 8], j: 4, alpha: 0.5 },
  { active: [0, 2, 5, 7], j: 5, alpha: 0.1, rescale: 1 },
  { active: [3, 8], j: 8, alpha: 1, rescale: 0.5 },
] as const;
const LEAPS = [
  { k: 1, j: 5, alpha: 0.3 },
  { k: 0, j: 8, alpha: 0.3, tau: 0.1 },
  { k: 1, j: 5, alpha: 0.1, order: 3, supports: "midpoint", supportScale: 0.25, tau: 0.2 },
  { k: 2, j: 4, alpha: 1, order: 3, supports: "all", rescale: 0.5, tau: 5 },
  { k: 1, j: 6, alpha: 0.1, order: 3, supports: "start", anchor: 0.4, rescale: 1 },
  { k: 2, j: 6, alpha: 0.1, order: 3, supports: "midpoint", weights: "adams-bashforth" },
  { k: 2, j: 6, alpha: 0.1, order: 4, supports: "midpoint", weights: "uniform", anchor: 0.7 },
] as const;

Deno.test("Sparse, Bridge, LeapAlign and Lagrange are their definitions, differentiated forwards", async () => {
  for (const definition of [...SPARSE, ...BRIDGES, ...LEAPS]) {
    await assertExact(flow(), definition);
  }
});

Deno.test("they hold on every sampler that they are defined on, whatever the denoiser predicts", async () => {
  for (const prediction_type of ["epsilon", "v_prediction", "sample"]) {
    for (const kind of ["ddpm", "ddim", "dpmsolver++"] as const) {
      const sampler = diffusion(kind, { prediction_type });
      for (const definition of SPARSE) await assertExact(sampler, definition);
      if (kind !== "dpmsolver++") {
        for (const definition of BRIDGES) await assertExact(sampler, definition);
      }
      if (kind === "ddpm") continue;
      // DDIM's last level is not zero noise here, the solver's is.
      for (const definition of LEAPS) await assertExact(sampler, definition);
    }
  }
  for (const definition of [...SPARSE, ...BRIDGES]) {
    await assertExact(flow({ stochastic_sampling: true }), definition);
  }
});

Deno.test("they hold for every way through guidance", async () => {
  for (const gradient of ["both", "conditional", "none"] as const) {
    for (const scale of [1, 4]) {
      for (const definition of [SPARSE[1], BRIDGES[0], LEAPS[2]]) {
        await assertExact(flow(), definition, { scale, gradient });
      }
    }
  }
});

Deno.test("Sparse with all steps active is DRTune without a stop on all steps", async () => {
  const all = Array.from({ length: T }, (_, i) => i);
  const sparse = await run(flow(), {
    selection: straightThroughSelection({ active: all }, { T, rescale: 0.5 }),
  });
  const drtune = await run(flow(), {
    selection: {
      trainSteps: all.map((i) => T - i).reverse(),
      tMin: 0,
      inputStopGradient: true,
      redraws: 0,
    },
  });
  sparse.gradients.forEach((g, i) => {
    const expected = drtune.gradients[i] ?? NaN;
    assert.ok(Math.abs(g - expected) < 1e-6 * Math.abs(expected), `${g}, ${expected}`);
  });
});

Deno.test("a bridge of alpha 0 is Sparse of the same steps", async () => {
  const active = [1, 3, 4, 7];
  const bridge = await run(flow(), {
    selection: straightThroughSelection({ active, j: 4 }, { T, alpha: 0, rescale: 0.5 }),
  });
  const sparse = await run(flow(), {
    selection: straightThroughSelection({ active }, { T, rescale: 0.5 }),
  });
  bridge.gradients.forEach((g, i) => {
    const expected = sparse.gradients[i] ?? NaN;
    assert.ok(Math.abs(g - expected) < 2e-6 * Math.abs(expected), `${g}, ${expected}`);
  });
});

Deno.test("Lagrange of order 1 is Euler's leap, and of a high order what sampling itself makes", async () => {
  const leap = { k: 1, j: 5, alpha: 0.3, tau: 0.1 };
  const euler = straightThroughSelection(leap, { ...leap, T });
  const lagrange = straightThroughSelection(leap, {
    ...leap,
    T,
    order: 1,
    weights: "lagrange",
    supports: "midpoint",
    supportScale: 0.25,
  });
  assert.deepEqual(
    (await run(flow(), { selection: euler })).gradients,
    (await run(flow(), { selection: lagrange })).gradients,
  );
  // The weights add up to the interval, and integrate polynomials exactly.
  const nodes = [0.9, 0.7, 0.55, 0.2];
  const weights = quadratureWeights(nodes, 0.9, 0.1);
  for (const degree of [0, 1, 2, 3]) {
    const sum = weights.reduce((s, w, i) => s + w * (nodes[i] ?? NaN) ** degree, 0);
    const exact = (0.1 ** (degree + 1) - 0.9 ** (degree + 1)) / (degree + 1);
    assert.ok(Math.abs(sum - exact) < 1e-14, `degree ${degree}: ${sum}, ${exact}`);
  }
});

Deno.test("products that do not depend on one another are one batch, and at most one is nested", async () => {
  const images = PROMPTS.length * 2;
  const of = async (definition: Definition) => {
    const selection = straightThroughSelection(definition, { ...definition, T });
    return (await run(flow(), { selection })).networks.differentiated;
  };
  assert.deepEqual(await of({ active: [2, 4, 7] }), [3 * images]);
  assert.deepEqual(await of({ active: [1, 3, 4, 6, 8], j: 4, alpha: 0.5 }), [images, 4 * images]);
  assert.deepEqual(await of({ k: 1, j: 5, alpha: 0.3, tau: 0.1 }), [images, images]);
});

Deno.test("what is not defined is refused by name", () => {
  const of = (sampler: Sampler, definition: Definition) => {
    const { surrogate = assert.fail(), trainSteps } = straightThroughSelection(definition, {
      ...definition,
      T,
    });
    return straightThrough(sampler, { surrogate, trainSteps });
  };
  const refused = (make: () => unknown, says: RegExp) =>
    assert.throws(
      make,
      (e) => e instanceof FieldError && e.field === "sampler.kind" && says.test(e.message),
    );
  refused(() => of(diffusion("ddpm"), LEAPS[0]), /"ddpm", which draws noise/);
  refused(() => of(flow({ stochastic_sampling: true }), LEAPS[2]), /which draws noise/);
  refused(() => of(diffusion("dpmsolver++"), BRIDGES[0]), /remembers a prediction/);
});

const golden = z.object({
  method: z.string(),
  T: z.number(),
  sigma: z.array(z.number()),
  active: z.array(z.number()).optional(),
  pre_active: z.array(z.number()).optional(),
  post_active: z.array(z.number()).optional(),
  k: z.number().optional(),
  j: z.number().optional(),
  alpha: z.number().default(1),
  grad_rescale: z.number().default(0),
  order: z.number().default(1),
  support_scale: z.number().default(1),
  kappa: z.array(z.number()).nullable(),
  pre: z.array(z.number()).nullable(),
  nest: z.number().nullable(),
});

Deno.test("weights and nested factors are the golden cases'", () => {
  let compared = 0;
  const root = new URL("../testdata/flow_cases/", import.meta.url);
  for (const name of readdirSync(root)) {
    const c = golden.parse(JSON.parse(readFileSync(new URL(name, root), "utf8")));
    const { k, j, alpha, order, support_scale: supportScale, grad_rescale: rescale } = c;
    const active = c.active ?? [...c.pre_active ?? [], ...c.post_active ?? []];
    if (active.length === 0 && k === undefined) continue;
    const steps = c.sigma.slice(0, -1).map((sigma, i) => ({
      timestep: 1000 * sigma,
      alpha: 1 - sigma,
      sigma,
      clean: { x: 1, output: -sigma },
      eps: { x: 1, output: 1 - sigma },
      next: { x: 1, output: (c.sigma[i + 1] ?? NaN) - sigma, previous: 0, noise: 0 },
    }));
    const { surrogate = assert.fail(), trainSteps } = straightThroughSelection({
      active,
      ...(k !== undefined && { k }),
      ...(j !== undefined && { j }),
    }, {
      T: c.T,
      alpha,
      rescale,
      order,
      supportScale,
      supports: order > 1 ? "midpoint" : "start",
    });
    const { second, bridge } = straightThrough(
      { kind: "flow-euler", isFlow: true, steps },
      { surrogate, trainSteps },
    );
    c.kappa?.forEach((expected, i) => {
      const found = bridge?.first.get(i) ?? second.get(i) ?? 0;
      assert.ok(Math.abs(found - expected) < 1e-12, `${name} ${i}: ${found}, ${expected}`);
    });
    assert.deepEqual([...bridge?.first.keys() ?? []].sort(), c.pre);
    if (bridge !== undefined) {
      const nest = bridge.alpha * (second.get(bridge.step) ?? NaN);
      assert.ok(Math.abs(nest - (c.nest ?? NaN)) < 1e-12, `${name}: ${nest}, ${c.nest}`);
    }
    compared++;
  }
  assert.equal(compared, 10);
});
