import { FieldError } from "./errors.ts";

/** How a reward reads an image's prompt; what is left out leaves it as it is. */
export interface PromptReading {
  /** A text with "{prompt}", the prompt that is drawn, and "{2}" to "{9}", the further columns of its line. */
  readonly prompt?: string;
  /** Phrases that are taken out of "{prompt}". */
  readonly without?: readonly string[];
}

/** The part of a line of prompts that is drawn: what stands before its first tab. */
export function drawnPrompt(line: string): string {
  return line.split("\t", 1)[0]?.trim() ?? "";
}

/** What a reward reads of a line of prompts. Throws `FieldError` naming `field` for a column that the line lacks. */
export function rewardPrompt(
  line: string,
  { prompt: template = "{prompt}", without = [] }: PromptReading,
  field: string,
): string {
  const columns = line.split("\t").map((column) => column.trim());
  const drawn = without.reduce((text, phrase) => text.replaceAll(phrase, ""), columns[0] ?? "");
  const text = template.replaceAll(PLACE, (_, name: string) => {
    if (name === "prompt") return drawn.trim();
    const column = columns[Number(name) - 1];
    if (column !== undefined && column !== "") return column;
    throw new FieldError(
      `${field}.prompt`,
      `names column ${name}, expected one of the ${columns.length} that tabs separate in ${
        JSON.stringify(line)
      }`,
    );
  });
  if (text.trim() !== "") return text;
  throw new FieldError(`${field}.without`, `leaves nothing of ${JSON.stringify(line)}`);
}

/**
 * Checks how a reward reads prompts: that its text names nothing else than there is, that each phrase is in one of the
 * lines, and that every line has what it reads. Throws `FieldError` naming `field`.
 */
export function checkReading(
  reading: PromptReading,
  { lines, field }: { readonly lines: readonly string[]; readonly field: string },
): void {
  const odd = reading.prompt?.replaceAll(PLACE, "").match(/\{[^{}]*\}/);
  if (odd) {
    throw new FieldError(`${field}.prompt`, `has "${odd[0]}", expected {prompt} or {2} to {9}`);
  }
  for (const [i, phrase] of (reading.without ?? []).entries()) {
    if (lines.some((line) => drawnPrompt(line).includes(phrase))) continue;
    throw new FieldError(
      `${field}.without.${i}`,
      `is ${JSON.stringify(phrase)}, expected a phrase of a prompt: none has it`,
    );
  }
  for (const line of lines) rewardPrompt(line, reading, field);
}

const PLACE = /\{(prompt|[2-9])\}/g;
