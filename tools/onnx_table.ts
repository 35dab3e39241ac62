import { IMPORTED_OPERATORS, type ImportedOperator } from "../autodiff/mod.ts";
import { RESULTS_FILE, ZooResults } from "./zoo_exports/zoo_result.ts";
import { zooRows, zooSummary } from "./zoo_exports/zoo_table.ts";

/** Where the table lies. */
export const ONNX_FILE = new URL("../docs/onnx.md", import.meta.url);

const HEADER = `# What ONNX files may hold

A reward of kind \`onnx\` takes models of opset 7 and newer, judged operator by operator: there is no
newest opset, and an attribute that is not known is refused by name. Written by
\`deno task onnx-table\` from the tables in autodiff/import.

- **kept**: graphs have the operator; older forms (attributes that became inputs, coerced softmax,
  statistics per entry) are brought to the newest.
- **rewritten**: in operators that graphs have, whose gradients follow.
- **on load**: constants, sequences, branches and loops, which are gone when the model has been
  read. A branch or loop that only a run decides is refused, but for an If of which both branches
  have one shape.
- **refused**: and why.

Functions of the model are written out where they are called. Whole numbers of other widths (int16,
uint16, uint32, uint64, int4, uint4) are read as the next wider ones, sparse tensors as dense ones.
Rounding to whole numbers (QuantizeLinear and its likes, uint8 images) passes gradients straight
through, none beyond the range; weights in 4 or 8 bits are what they stand for.

`;

const COLUMNS = ["Operator", "How", "Limits"];

const ZOO_HEADER = `
## Compared with PyTorch

\`deno task zoo-exports\` exports architectures of torchvision, timm, transformers and diffusers with
random weights at small sizes, by both of PyTorch's exporters, and compares values and gradients
with PyTorch in float64: within 1e-4 of the largest, or four times what PyTorch in float32 is off.
\`--keep FOLDER --record\` writes docs/zoo_exports.json, of which this is made.

`;

const ZOO_NOTES = `
Where PyTorch's own gradient is not the derivative, central differences decide. A unit at the bend
of its ReLU decides about a share of a gradient: in PyTorch's float32 one unit of 4096 of
resnetv2_50x1_bit is 4e-5 where it is 0 in float64, which is 3 % of the largest entry; here one of
tresnet_m is 0 where it is 7e-8, which is 0.1 %. Such a gradient may be as far off as PyTorch's in
float64 goes between images whose pixels are 1e-5 of themselves apart ("moves"). DISTS has √(Σ x² +
1e-12): the dynamo exporter's optimizer takes the 1e-12 for nothing and leaves it out, so that such
a file is another function (5e-6 and 3e-4 off); here it is exported with \`optimize=False\`.

`;

const ZOO_COLUMNS = ["Architecture", "TorchScript: value, gradient", "dynamo: value, gradient"];

function row({ name, how, limits = "" }: ImportedOperator): readonly string[] {
  return [name, how, limits];
}

function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((title, i) =>
    Math.max(title.length, ...rows.map((cells) => cells[i]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  return line(columns) + line(widths.map((width) => "-".repeat(width))) + rows.map(line).join("");
}

/** The page as Markdown, formatted as \`deno fmt\` would. */
export function onnxTable(): string {
  const results = ZooResults.parse(JSON.parse(Deno.readTextFileSync(RESULTS_FILE)));
  return HEADER + table(COLUMNS, IMPORTED_OPERATORS.map(row)) + ZOO_HEADER +
    zooSummary(results) + ZOO_NOTES + table(ZOO_COLUMNS, zooRows(results));
}

if (import.meta.main) await Deno.writeTextFile(ONNX_FILE, onnxTable());
