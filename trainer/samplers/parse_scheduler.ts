import type { SchedulerFile } from "../../models/diffusers/mod.ts";
import { parseConfig } from "../parse_config.ts";
import {
  type FlowFamily,
  flowSchedulerConfigSchema,
  type Scheduler,
} from "./flow_scheduler_config.ts";
import { parseSchedulerConfig } from "./scheduler_config.ts";

/**
 * Checks what a pipeline's scheduler folder asks for; `flow` is there for flow-matching models, whose levels depend on
 * family and size. Throws `FieldError` naming file, field, found and expected.
 */
export function parseScheduler(
  file: SchedulerFile,
  flow?: { readonly family: FlowFamily; readonly tokens: number },
): Scheduler {
  if (flow === undefined) return parseSchedulerConfig(file);
  return { ...parseConfig(flowSchedulerConfigSchema, file.config, { file: file.path }), ...flow };
}
