export { faultsOf } from "./_faults.ts";
export { soak, type SoakReport } from "./soak.ts";
