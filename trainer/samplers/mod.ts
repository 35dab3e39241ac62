export { alphasCumprod } from "./alphas_cumprod.ts";
export { closedForm } from "./closed_form.ts";
export * from "./sampler.ts";
export * from "./scheduler_config.ts";
export * from "./timesteps.ts";
