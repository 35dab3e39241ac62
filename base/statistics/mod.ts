/** Means and their intervals. Also sent to browsers as they are: nothing here needs more than the language. */
export * from "./fleiss_kappa.ts";
export * from "./student_quantile.ts";
export * from "./student_within.ts";
export * from "./summarise.ts";
export * from "./wilson.ts";
