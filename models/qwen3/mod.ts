export { type Qwen3Context, qwen3Segments } from "./qwen3.ts";
export { parseQwen3Config, type Qwen3Config } from "./qwen3_config.ts";
