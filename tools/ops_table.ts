import { type Operator, OPERATORS } from "../autodiff/mod.ts";
import { FLOAT32_ONLY, OP_CASES } from "../tests/autodiff/mod.ts";

/** Where the table lies. */
export const OPS_FILE = new URL("../autodiff/OPS.md", import.meta.url);

const HEADER = `# Operators

Every operator a graph can hold, by its ONNX name (opset 20); those of \`com.microsoft\` are ONNX
Runtime's own, the last two exist in graphs only. Models of opset 7 and newer are brought to this
form when they are imported. Written by \`deno task ops\` from the tables in this folder and its
tests.

- **Gradient**: \`rule\`, or 0 by definition. An operator with neither does not compile.
- **No gradient to**: inputs that only say what to do with the others.
- **Cases**: uses whose gradient is verified by a random projection, in float64, or in float32 where
  ONNX Runtime's CPU provider has no float64 kernel.

`;

const COLUMNS = [
  "Operator",
  "Domain",
  "Gradient",
  "No gradient to",
  "Cases",
  "Verified in",
  "Limits",
];

const CASES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = OP_CASES;

function row({ name, domain, differentiable, stops, limits = "" }: Operator): readonly string[] {
  const cases = Object.keys(CASES[name] ?? {}).length;
  return [
    name,
    domain,
    differentiable ? "rule" : "0",
    stops.length === 0 ? "" : `input ${stops.join(", ")}`,
    differentiable ? String(cases) : "",
    differentiable ? (FLOAT32_ONLY.has(name) ? "float32" : "float64") : "",
    limits,
  ];
}

/** The table of operators as Markdown, formatted as \`deno fmt\` would. */
export function opsTable(): string {
  const own = (op: Operator) => Number(op.domain === "graph");
  const rows = OPERATORS.toSorted((a, b) => own(a) - own(b)).map(row);
  const widths = COLUMNS.map((title, i) =>
    Math.max(title.length, ...rows.map((cells) => cells[i]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  const rule = line(widths.map((width) => "-".repeat(width)));
  return HEADER + line(COLUMNS) + rule + rows.map(line).join("");
}

if (import.meta.main) await Deno.writeTextFile(OPS_FILE, opsTable());
