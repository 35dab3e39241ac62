import { z } from "zod";
import { count } from "../config.ts";

/** Features of each axis of a rotary embedding: even, together a head. */
export const axes = () =>
  z.array(count().multipleOf(2, "even numbers"), "a list of even numbers").min(1, "at least one");

/** The sum of some numbers. */
export function sumOf(values: readonly number[]): number {
  return values.reduce((sum, v) => sum + v, 0);
}
