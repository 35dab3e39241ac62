export { openOwlVit, owlVitLogits, type OwlVitModel, owlVitQuery } from "./owlvit.ts";
export { parseOwlVitConfig } from "./owlvit_config.ts";
