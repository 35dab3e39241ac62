import { KEY_FORMS, LORA_PARTS, REFUSED_KEYS } from "../models/lora/mod.ts";

/** Where the tables lie. */
export const LORA_FILE = new URL("../docs/lora.md", import.meta.url);

const HEADER = `# LoRA files

\`drtune sample --lora PATH\` draws with any file or folder of these tables: what it changes of each
module's weight is read with that module's own rank and alpha, and nothing of it is left out without
a word. Written by \`deno task lora-table\` from models/lora.

PATH is a \`.safetensors\` file, a PyTorch file (\`.bin\`, \`.pt\`, \`.pth\`, \`.ckpt\`, read without
executing it), a folder of diffusers' or PEFT's (\`pytorch_lora_weights\`, \`adapter_model\` with
\`adapter_config.json\`), or a folder with a PEFT folder for each network (\`unet\`, \`text_encoder\`,
\`text_encoder_2\`). Any float dtype. Every linear layer, convolution and normalization of the U-Net
and the text encoders can be changed.

| What               | The weight becomes                                                        |
| ------------------ | ------------------------------------------------------------------------- |
| LoRA, LoCon        | W + alpha / rank · B A; a middle convolution (\`lora_mid\`) is between them |
| rsLoRA             | W + alpha / √rank · B A, as PEFT's configuration says                     |
| DoRA               | rows, or inputs' columns, of that, of the lengths given                   |
| LoHa               | W + alpha / rank · (A1 B1) ∘ (A2 B2), also in Tucker's form               |
| LoKr               | W + alpha / rank · W1 ⊗ W2; of whole factors W + W1 ⊗ W2                  |
| a full difference  | W + diff, bias + diff_b                                                   |
| PEFT's \`lora_bias\` | bias + alpha / rank · bias of B                                           |

Where a file has no alpha beside a module, PEFT's configuration says it (\`rank_pattern\` and
\`alpha_pattern\` too, in \`adapter_config.json\` or in diffusers' metadata), else the factor is 1.
\`--lora-scale\` multiplies what is added; of DoRA the product alone, as PEFT has it.

Where diffusers 0.42 does otherwise, files are taken at their word: it leaves out kohya's alphas
where they differ between the layers of attention (huggingface/peft warns of "alpha_pattern keys"),
gives a module without an alpha another's, and drops kohya's \`dora_scale\`.

Fused layers of the authors' layouts (\`qkv\`, \`linear1\`) change each module by its rows, of LoKr by
those of the product. Where a file has a module under its own name too, as some of Z-Image's have,
its own counts, as in diffusers.

\`lora.init\` goes on training from plain products (LoRA, LoCon, rsLoRA) on the U-Net, of any ranks
and alphas. A file with more than that is refused there, since training would lose it.

`;

/** A table in Markdown, formatted as \`deno fmt\` would. */
function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = titles.map((title, i) =>
    Math.max(title.length, ...rows.map((r) => r[i]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  return line(titles) + line(widths.map((width) => "-".repeat(width))) + rows.map(line).join("");
}

const code = (text: string) => `\`${text}\``;

/** The page as Markdown. */
export function loraTable(): string {
  const forms = KEY_FORMS.map(({ end, part, writer }) => [code(end), code(part), writer]);
  const parts = Object.entries(LORA_PARTS).map(([name, { dotted, flat }]) => [
    code(name),
    dotted.filter((prefix) => prefix !== "").map(code).join(", ") +
    (dotted.some((p) => p === "") ? ", none" : ""),
    flat.map(code).join(", "),
  ]);
  const refused = REFUSED_KEYS.map((
    { key, what },
  ) => [code(key.source.replaceAll("|", "\\|")), what]);
  return HEADER +
    "## Ends of tensors' names\n\nWhat stands before them is the module.\n\n" +
    table(["Name ends in", "Read as", "Written by"], forms) +
    "\n## Modules' names\n\nA network's module is called by its name in diffusers, or in the original layout\n" +
    "(`input_blocks.4.1.proj_in`), after one of these; after the last column's with underscores in place\nof dots.\n\n" +
    table(["Network", "Before names with dots", "Before names with underscores"], parts) +
    "\n## What is refused, by its name\n\n" +
    table(["Names that match", "What they are"], refused) +
    "\nSo is a configuration of PEFT's whose `peft_type` is none of LORA, LOHA and LOKR, whose\n" +
    "initialisation changed the model's own weights (PiSSA, OLoRA, CorDA, LoftQ), or that has a field\n" +
    "that is not known and not empty.\n";
}

if (import.meta.main) await Deno.writeTextFile(LORA_FILE, loraTable());
