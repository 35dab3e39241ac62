export * from "./check_gradient.ts";
