/** Published pipelines by what they say of themselves: their files of configuration, and the shapes that follow. */
export type { ModelFiles } from "./model_files.ts";
export { networksOf, type NetworkWeights } from "./networks_of.ts";
export { PUBLISHED_PIPELINES, type PublishedPipeline } from "./pipelines.ts";
export { storedAs } from "./stored_as.ts";
export { writeOutline } from "./write_outline.ts";
