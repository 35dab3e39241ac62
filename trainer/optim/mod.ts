export * from "./adamw.ts";
export * from "./average.ts";
export * from "./clip.ts";
export * from "./warmed_up.ts";
