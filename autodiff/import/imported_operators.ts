import { OPERATORS } from "../operators.ts";
import { CONVERTED } from "./_convert.ts";
import { isKept, REFUSED } from "./_keep.ts";
import { SEQUENCES } from "./_sequences.ts";
import { SOURCES } from "./_sources.ts";

/** What becomes of an operator of a model file. */
export interface ImportedOperator {
  /** Its ONNX name; with its domain in front where that is not ONNX's. */
  readonly name: string;
  /**
   * "kept": graphs have it; "rewritten": in operators that graphs have; "on load": it is gone when the model has been
   * read; "refused" by name.
   */
  readonly how: "kept" | "rewritten" | "on load" | "refused";
  /** What is not read of it, or why nothing is. */
  readonly limits?: string;
}

const LIMITS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(OPERATORS.map(({ name, limits = "" }) => [name, limits])),
  Attention: "`qk_matmul_output_mode` 0 or 3",
  BatchNormalization: "",
  Compress: "constant condition",
  Constant: "no strings",
  ConvTranspose: "",
  Det: "up to 8 rows",
  GRU: "sequences of one length, up to 1024 steps",
  If: "known on load, or of branches of the same shape, both of which are then computed",
  LSTM: "sequences of one length, up to 1024 steps; no `input_forget`",
  Loop: "how often must be known on load",
  LpNormalization: "p 1 or 2",
  NonZero: "constant input",
  Range: "constant inputs",
  Resize: "constant scales or sizes",
  RNN: "sequences of one length, up to 1024 steps",
  RoiAlign: "mode avg",
  STFT: "constant step and length",
  Scan: "opset 9 or newer",
  "com.microsoft.Attention": "no past keys, no rotary embedding",
  "com.microsoft.MatMulNBits": "4 or 8 bits, stored weights",
};

/** Every operator that is read, or refused for a reason, ONNX's own first. */
export const IMPORTED_OPERATORS: readonly ImportedOperator[] = (() => {
  const found = new Map<string, ImportedOperator["how"]>();
  for (const { name } of OPERATORS) if (isKept(name)) found.set(name, "kept");
  for (const name of CONVERTED) {
    // Many that graphs have are only brought to their newest form.
    if (!found.has(name)) found.set(name, "rewritten");
  }
  for (const name of [...SOURCES.keys(), ...Object.keys(SEQUENCES), "If", "Loop", "Scan"]) {
    found.set(name, "on load");
  }
  for (const name of Object.keys(REFUSED)) found.set(name, "refused");
  return [...found].map(([name, how]) => {
    const limits = how === "refused" ? REFUSED[name] : LIMITS[name];
    return { name, how, ...(limits !== undefined && limits !== "" && { limits }) };
  }).sort((a, b) =>
    Number(a.name.includes(".")) - Number(b.name.includes(".")) || (a.name < b.name ? -1 : 1)
  );
})();
