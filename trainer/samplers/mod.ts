export { alphasCumprod } from "./alphas_cumprod.ts";
export { closedForm } from "./closed_form.ts";
export * from "./flow_scheduler_config.ts";
export * from "./flow_sigmas.ts";
export { endLevel, isStochastic, type OdePath, odePath } from "./ode_path.ts";
export { parseScheduler } from "./parse_scheduler.ts";
export * from "./sampler.ts";
export * from "./scheduler_config.ts";
export * from "./timesteps.ts";
