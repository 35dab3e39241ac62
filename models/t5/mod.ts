export { type T5Context, t5Segments } from "./t5.ts";
export { parseT5Config, type T5Config } from "./t5_config.ts";
