/** The trainer's side of a cluster: who leads, and the workers that compute for it. */
export * from "./cluster.ts";
export * from "./leadership.ts";
