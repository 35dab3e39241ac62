/** A file or class that is longer than a reader follows. */
export interface SizeProblem {
  /** Path relative to the repository, with forward slashes. */
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  readonly message: string;
}

const FILE_LINES = 400;
const CLASS_LINES = 250;

/** docs/decisions.md says of each why it is one piece. */
const LONG_CLASSES: ReadonlySet<string> = new Set(["Builder", "PickleReader"]);

/** Checks formatted product code, given as text by relative path; tests and what only they use may be longer. */
export function checkSizes(files: ReadonlyMap<string, string>): SizeProblem[] {
  return [...files].filter(([file]) => isProduct(file)).flatMap(([file, source]) => {
    const lines = source.trimEnd().split("\n");
    const problems = longClasses(lines).map((found) => ({ file, ...found }));
    if (lines.length <= FILE_LINES) return problems;
    const message = `The file has ${lines.length} lines, expected at most ${FILE_LINES}`;
    return [{ file, line: 1, message }, ...problems];
  });
}

function longClasses(lines: readonly string[]): Pick<SizeProblem, "line" | "message">[] {
  return lines.flatMap((text, at) => {
    const name = /^(?:export )?(?:abstract )?class (\w+)/.exec(text)?.[1];
    if (name === undefined || LONG_CLASSES.has(name)) return [];
    const length = lines.slice(at).findIndex((line) => line.startsWith("}")) + 1;
    if (length <= CLASS_LINES) return [];
    const message = `Class ${name} has ${length} lines, expected at most ${CLASS_LINES}`;
    return [{ line: at + 1, message }];
  });
}

function isProduct(file: string): boolean {
  return !/^(?:tests|proto\/gen)\/|(?:^|\/)(?:testing|testdata)\/|_test\.ts$/.test(file);
}
