export { WeightScope, type WeightTable } from "./weight_scope.ts";
export { compose, type Segment } from "./segments.ts";
