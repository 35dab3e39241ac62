import type { PublishedPipeline } from "./pipelines.ts";

/** Element type that the published files of a pipeline's weights have; `file` is relative to its folder. */
export function storedAs(
  name: PublishedPipeline,
  file: string,
): "bfloat16" | "float16" | "float32" {
  switch (name) {
    case "sd15":
    case "sd21":
    case "sdxl":
      return "float32";
    case "sd35-medium":
      return file.startsWith("text_encoder") ? "float16" : "bfloat16";
    case "z-image":
      return file.startsWith("transformer") ? "float32" : "bfloat16";
    case "flux-schnell":
    case "flux-dev":
    case "klein-4b":
      return "bfloat16";
  }
}
