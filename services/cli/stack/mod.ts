/** The one description of a stack's services, and what is made from it. */
export { COMPOSE_VARIANTS, composeYaml } from "./compose.ts";
export { EMBEDDED_STACK, readStack } from "./read_stack.ts";
export { stackJsonSchema } from "./stack_schema.ts";
export { type ServiceKind, type ServiceNeeds, servicePermissions } from "./service_permissions.ts";
