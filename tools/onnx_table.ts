import { IMPORTED_OPERATORS, type ImportedOperator } from "../autodiff/mod.ts";

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

\`deno task zoo-exports\` compares exports of torchvision, timm, transformers and diffusers with
PyTorch in float64: 1e-4 of the largest, but where PyTorch in float32 is no nearer. DISTS is such a
case: its pooling, √(Σ x² + 1e-12), bends within 1e-6 of a window of zeros, so that the last bit of
a feature decides about a slope; PyTorch's own float32 gradient is then as far off (3e-3 at random
weights).

`;

const COLUMNS = ["Operator", "How", "Limits"];

function row({ name, how, limits = "" }: ImportedOperator): readonly string[] {
  return [name, how, limits];
}

/** The table as Markdown, formatted as \`deno fmt\` would. */
export function onnxTable(): string {
  const rows = IMPORTED_OPERATORS.map(row);
  const widths = COLUMNS.map((title, i) =>
    Math.max(title.length, ...rows.map((cells) => cells[i]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  const rule = line(widths.map((width) => "-".repeat(width)));
  return HEADER + line(COLUMNS) + rule + rows.map(line).join("");
}

if (import.meta.main) await Deno.writeTextFile(ONNX_FILE, onnxTable());
