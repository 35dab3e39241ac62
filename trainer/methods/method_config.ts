import { FieldError } from "../errors.ts";
import {
  type Method,
  type MethodName,
  METHODS,
  type StepRule,
  type SurrogateParameters,
} from "./methods.ts";

/** A method with the parameters and switches one may set; what is left out is as the method defines it. */
export interface MethodOptions extends SurrogateParameters {
  readonly name: MethodName;
  /** K, the number of trained steps, 1 to T, in methods that have one. */
  readonly k?: number | undefined;
  /** m: sampling stops at a step drawn from 1..m, 1 to T - 1. Only with early stop. */
  readonly m?: number | undefined;
  readonly inputStopGradient?: boolean | undefined;
  readonly earlyStop?: boolean | undefined;
  /** DRTune's rule for its steps. Default: the paper's, "prefix" on flow-euler. */
  readonly stepRule?: StepRule | undefined;
}

/** A method with everything decided. What means nothing to it is absent. */
export interface MethodConfig extends SurrogateParameters {
  readonly name: MethodName;
  readonly k?: number;
  readonly m?: number;
  readonly inputStopGradient: boolean;
  readonly earlyStop: boolean;
  readonly stepRule?: StepRule;
}

/** Parameters of surrogates, with the range that each may be in. */
const RANGES = {
  bias: [0, 20],
  rescale: [0, 1],
  alpha: [0, 1],
  tau: [0, 100],
  supportScale: [0, 1],
  anchor: [0, 1],
  window: [0, 1],
} as const;

/** Of Dirichlet's three. Below, parts come that a float cannot tell from 0; above, the same ones always. */
const CONCENTRATIONS = [0.05, 1000] as const;

/**
 * Fills in a method's defaults for T sampling steps; `isFlow` says for which kind of sampler. Throws `FieldError`
 * naming the field and the allowed range.
 */
export function resolveMethod(
  options: MethodOptions,
  T: number,
  { isFlow = false }: { readonly isFlow?: boolean } = {},
): MethodConfig {
  const { name } = options;
  const method: Method = METHODS[name];
  const refuse = (field: string, problem: string): never => {
    throw new FieldError(`method.${field}`, problem);
  };
  if (method.surrogate !== undefined) return resolveSurrogate(options, { T, method });
  for (const field of SURROGATE_FIELDS) {
    if (options[field] === undefined) continue;
    refuse(
      field,
      `is ${JSON.stringify(options[field])}, expected none: ${name} has no such parameter`,
    );
  }
  if (options.stepRule !== undefined && name !== "drtune") {
    refuse("stepRule", `is "${options.stepRule}", expected none: ${name} has no such parameter`);
  }
  const stepRule = options.stepRule ?? (isFlow ? "prefix" : "trajectory");
  const earlyStop = options.earlyStop ?? (method.earlyStop && T > 1);
  const inputStopGradient = options.inputStopGradient ?? method.inputStopGradient;
  if (method.trains === "stop" && T < 2) {
    throw new FieldError(
      "sampler.steps",
      `is ${T}, expected 2 or more: ${name} trains the step it stops at, before the end`,
    );
  }
  if (method.trains === "stop" && !earlyStop) {
    refuse("earlyStop", `is false, expected true: ${name} trains the step it stops at`);
  }
  if (options.k !== undefined && method.k === undefined) {
    refuse("k", `is ${options.k}, expected none: ${name} has no such parameter`);
  }
  if (earlyStop && T < 2) {
    refuse("earlyStop", "is true, expected false with a single sampling step");
  }
  const k = options.k ?? method.k?.(T, stepRule);
  const m = earlyStop ? options.m ?? Math.min(method.m(T), T - 1) : undefined;
  if (k !== undefined) checkRange("method.k", k, T);
  if (m !== undefined) checkRange("method.m", m, T - 1);
  return {
    name,
    ...(k === undefined ? {} : { k }),
    ...(m === undefined ? {} : { m }),
    inputStopGradient,
    earlyStop,
    ...(name === "drtune" && stepRule !== "trajectory" && { stepRule }),
  };
}

const SURROGATE_FIELDS = [
  "bias",
  "rescale",
  "alpha",
  "tau",
  "order",
  "weights",
  "supports",
  "supportScale",
  "anchor",
  "concentration",
  "longestEnd",
  "window",
] as const satisfies readonly (keyof SurrogateParameters)[];

/** Least steps that a method can be drawn from, where that is not one. */
const LEAST: Readonly<Partial<Record<MethodName, number>>> = {
  leapalign: 2,
  "flowbp-bridge": 2,
  "flowbp-lagrange": 3,
};

const RANGED = [
  "bias",
  "rescale",
  "alpha",
  "tau",
  "supportScale",
  "anchor",
  "window",
] as const satisfies readonly (keyof typeof RANGES)[];

function resolveSurrogate(
  options: MethodOptions,
  { T, method }: { readonly T: number; readonly method: Method },
): MethodConfig {
  const { name } = options;
  const known: SurrogateParameters = method.surrogate?.parameters ?? {};
  for (const field of SURROGATE_FIELDS) {
    if (options[field] === undefined || known[field] !== undefined) continue;
    throw new FieldError(
      `method.${field}`,
      `is ${JSON.stringify(options[field])}, expected none: ${name} has no such parameter`,
    );
  }
  const fixed = { inputStopGradient: true, earlyStop: false } as const;
  for (const field of ["inputStopGradient", "earlyStop"] as const) {
    const expected = fixed[field];
    if ((options[field] ?? expected) === expected) continue;
    throw new FieldError(
      `method.${field}`,
      `is ${options[field]}, expected ${expected}: ${name} is defined with it alone`,
    );
  }
  for (const field of ["m", "stepRule"] as const) {
    if (options[field] === undefined) continue;
    throw new FieldError(
      `method.${field}`,
      `is ${JSON.stringify(options[field])}, expected none: ${name} has no such parameter`,
    );
  }
  if (options.k !== undefined && method.k === undefined) {
    throw new FieldError(
      "method.k",
      `is ${options.k}, expected none: ${name} has no such parameter`,
    );
  }
  const given = Object.fromEntries(
    SURROGATE_FIELDS.flatMap((field) =>
      options[field] === undefined ? [] : [[field, options[field]]]
    ),
  );
  const parameters: SurrogateParameters = { ...known, ...given };
  checkParameters(parameters);
  const trainable = trainableSteps(T, parameters.window);
  const least = LEAST[name] ?? 1;
  if (trainable < least) {
    throw new FieldError(
      "sampler.steps",
      `is ${T}, of which ${name} may train ${trainable}, expected ${least} or more`,
    );
  }
  const k = options.k ?? (method.k && Math.min(method.k(T, "trajectory"), trainable));
  if (k !== undefined) {
    const low = name === "flowbp-bridge" ? 2 : 1;
    if (!(Number.isInteger(k) && k >= low && k <= trainable)) {
      throw new FieldError("method.k", `is ${k}, expected an integer of ${low} to ${trainable}`);
    }
  }
  return { name, ...(k === undefined ? {} : { k }), ...fixed, ...parameters };
}

/** Steps that a method with a window trains, counted from the last. */
export function trainableSteps(T: number, window = 1): number {
  return Math.max(1, Math.round(window * T));
}

function checkParameters(parameters: SurrogateParameters): void {
  for (const field of RANGED) {
    const value = parameters[field];
    const [low, high] = RANGES[field];
    if (value === undefined || (value >= low && value <= high)) continue;
    throw new FieldError(`method.${field}`, `is ${value}, expected ${low} to ${high}`);
  }
  const { order, longestEnd, concentration } = parameters;
  for (const [field, value] of [["order", order], ["longestEnd", longestEnd]] as const) {
    if (value === undefined || (Number.isInteger(value) && value >= 1)) continue;
    throw new FieldError(`method.${field}`, `is ${value}, expected an integer of 1 or more`);
  }
  if (concentration === undefined) return;
  const [low, high] = CONCENTRATIONS;
  if (concentration.length === 3 && concentration.every((c) => c >= low && c <= high)) return;
  throw new FieldError(
    "method.concentration",
    `is ${JSON.stringify(concentration)}, expected three numbers of ${low} to ${high}`,
  );
}

function checkRange(field: string, value: number, high: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= high) return;
  throw new FieldError(field, `is ${value}, expected an integer of 1 to ${high} (sampler.steps)`);
}
