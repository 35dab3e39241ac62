import { z } from "zod";

/** Both of PyTorch's exporters. */
export const EXPORTERS = ["torchscript", "dynamo"] as const;

/**
 * What came of an export: `right` or `off` by the tolerance, `refused` by the importer, `broken` where ONNX Runtime does
 * not take the file either, `unmade` where PyTorch cannot export the model. Errors are parts of the largest value:
 * `float32` is that of PyTorch's own gradient in float32; `byDifferences` says that PyTorch's gradient is not the
 * derivative, and that `gradient` is measured by central differences; `moves` how far PyTorch's
 * gradient itself goes at images that are 1e-5 away, as where a unit stands at the bend of its ReLU.
 */
export const ExportResult = z.union([
  z.strictObject({
    outcome: z.enum(["right", "off"]),
    value: z.number(),
    gradient: z.number(),
    float32: z.number(),
    byDifferences: z.boolean().optional(),
    moves: z.number().optional(),
  }),
  z.strictObject({ outcome: z.enum(["refused", "broken", "unmade"]), why: z.string() }),
]);
export type ExportResult = z.infer<typeof ExportResult>;

/** Results by architecture and exporter. */
export const ZooResults = z.record(
  z.string(),
  z.partialRecord(z.enum(EXPORTERS), ExportResult),
);
export type ZooResults = z.infer<typeof ZooResults>;

/** Where the results lie that docs/onnx.md shows. */
export const RESULTS_FILE = new URL("../../docs/zoo_exports.json", import.meta.url);
