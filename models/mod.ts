export { WeightScope, type WeightTable } from "./weight_scope.ts";
