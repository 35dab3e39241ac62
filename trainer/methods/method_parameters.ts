import { type Method, type MethodName, METHODS } from "./methods.ts";

/** Parameters that any method which samples with input gradients or early stop may be given. */
const SWITCHES = ["inputStopGradient", "earlyStop", "m"] as const;

/** Names of the parameters that a method has; it refuses the others. */
export function methodParameters(name: MethodName): readonly string[] {
  const { k, surrogate }: Method = METHODS[name];
  return [
    ...(k === undefined ? [] : ["k"]),
    ...(surrogate === undefined ? SWITCHES : Object.keys(surrogate.parameters)),
    ...(name === "drtune" ? ["stepRule"] : []),
  ];
}
