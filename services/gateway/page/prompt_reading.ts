/** What a reward reads in place of a prompt, as a term of a run says it. */
export interface PromptReading {
  /** A text with "{prompt}"; "": the prompt. */
  readonly prompt?: string;
  /** Phrases that are taken out of the prompt. */
  readonly without?: readonly string[];
}

/** What a reward reads of an image's prompt. Throws where it reads a column, which a prompt alone does not have. */
export function readPrompt(drawn: string, { prompt = "", without = [] }: PromptReading): string {
  const column = /\{[2-9]\}/.exec(prompt)?.[0];
  if (column !== undefined) {
    throw new Error(`The reward reads column ${column} of a line of prompts; ${drawn} has none`);
  }
  const kept = without.reduce((text, phrase) => text.replaceAll(phrase, ""), drawn).trim();
  return prompt === "" ? kept : prompt.replaceAll("{prompt}", () => kept);
}

/** The same for people; nothing where a reward reads the prompt as it is. */
export function readingText({ prompt = "", without = [] }: PromptReading): string[] {
  const phrases = without.map((phrase) => `“${phrase}”`).join(", ");
  const kept = phrases === "" ? [] : [`the prompt without ${phrases}`];
  if (prompt === "") return kept.map((text) => `reads ${text}`);
  return [`reads “${prompt}”`, ...kept];
}
