import type { Option } from "../command.ts";

/** The option of every command about the stack as a whole. */
export const STACK_OPTION = {
  stack: {
    type: "string",
    value: "FILE",
    help: "its description (default: DRTUNE_STACK, ./stack.yaml, or the embedded models')",
  },
} as const satisfies Readonly<Record<string, Option>>;
