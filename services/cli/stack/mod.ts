/** The one description of a stack's services. */
export { stackJsonSchema } from "./stack_schema.ts";
