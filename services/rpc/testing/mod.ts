export { healthStatus, listServices } from "./standard_services.ts";
