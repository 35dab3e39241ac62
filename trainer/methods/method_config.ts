import { FieldError } from "../errors.ts";
import { type Method, type MethodName, METHODS } from "./methods.ts";

/** A method with the parameters and switches one may set; what is left out is as the method defines it. */
export interface MethodOptions {
  readonly name: MethodName;
  /** K, the number of trained steps, 1 to T, in methods that have one. */
  readonly k?: number | undefined;
  /** m: sampling stops at a step drawn from 1..m, 1 to T - 1. Only with early stop. */
  readonly m?: number | undefined;
  readonly inputStopGradient?: boolean | undefined;
  readonly earlyStop?: boolean | undefined;
}

/** A method with everything decided. `k` and `m` are absent where they mean nothing. */
export interface MethodConfig {
  readonly name: MethodName;
  readonly k?: number;
  readonly m?: number;
  readonly inputStopGradient: boolean;
  readonly earlyStop: boolean;
}

/** Fills in a method's defaults for T sampling steps. Throws `FieldError` naming the field and the allowed range. */
export function resolveMethod(options: MethodOptions, T: number): MethodConfig {
  const { name } = options;
  const method: Method = METHODS[name];
  const earlyStop = options.earlyStop ?? (method.earlyStop && T > 1);
  const inputStopGradient = options.inputStopGradient ?? method.inputStopGradient;
  if (method.trains === "stop" && T < 2) {
    throw new FieldError(
      "sampler.steps",
      `is ${T}, expected 2 or more: ${name} trains the step it stops at, before the end`,
    );
  }
  if (method.trains === "stop" && !earlyStop) {
    throw new FieldError(
      "method.earlyStop",
      `is false, expected true: ${name} trains the step it stops at`,
    );
  }
  if (options.k !== undefined && method.k === undefined) {
    throw new FieldError(
      "method.k",
      `is ${options.k}, expected none: ${name} has no such parameter`,
    );
  }
  if (earlyStop && T < 2) {
    throw new FieldError(
      "method.earlyStop",
      "is true, expected false with a single sampling step",
    );
  }
  const k = options.k ?? method.k?.(T);
  const m = earlyStop ? options.m ?? Math.min(method.m(T), T - 1) : undefined;
  if (k !== undefined) checkRange("method.k", k, T);
  if (m !== undefined) checkRange("method.m", m, T - 1);
  return {
    name,
    ...(k === undefined ? {} : { k }),
    ...(m === undefined ? {} : { m }),
    inputStopGradient,
    earlyStop,
  };
}

function checkRange(field: string, value: number, high: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= high) return;
  throw new FieldError(field, `is ${value}, expected an integer of 1 to ${high} (sampler.steps)`);
}
