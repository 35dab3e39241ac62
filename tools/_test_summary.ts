/** What a `deno test` run says about itself. */
export interface TestSummary {
  readonly passed: number;
  readonly failed: number;
  /** Names of ignored tests and steps, with their file where the output gives it. */
  readonly skipped: readonly string[];
}

/**
 * Reads the output of `deno test` (pretty reporter, no colours). Undefined when the closing line is missing,
 * which means the run died. A module that fails to load counts as one failed test.
 */
export function parseTestSummary(output: string): TestSummary | undefined {
  const closing = [...output.matchAll(
    /^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed/gm,
  )].at(-1);
  if (closing === undefined) return undefined;
  const skipped = [...output.matchAll(/^(?:(\S+) =>)? *(.+) \.\.\. ignored \(.*\)$/gm)]
    .map(([, file, name]) => file === undefined ? `${name}` : `${name} (${file})`);
  return { passed: Number(closing[1]), failed: Number(closing[2]), skipped };
}
