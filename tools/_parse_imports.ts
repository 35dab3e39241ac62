/** One import, re-export or literal dynamic import of a module. */
export interface ImportStatement {
  readonly specifier: string;
  /** 1-based line of the specifier. */
  readonly line: number;
  /** False when the compiler erases it: `import type`, `export type`, or nothing but inline `type` names. */
  readonly runtime: boolean;
  /** True for `import("...")`, which is resolved only when it is reached. */
  readonly dynamic: boolean;
}

interface Token {
  readonly kind: "word" | "string" | "punctuation";
  /** The text itself; for a string, what stands between its quotes. */
  readonly text: string;
  readonly line: number;
}

/** Lists what a TypeScript or JavaScript source imports, in order. Comments, strings and templates are skipped. */
export function parseImports(source: string): ImportStatement[] {
  const tokens = [...tokenize(source)];
  const imports: ImportStatement[] = [];
  const text = (i: number) => tokens[i]?.kind === "string" ? undefined : tokens[i]?.text;
  const add = (i: number, flags: { runtime: boolean; dynamic: boolean }) => {
    const token = tokens[i];
    if (token?.kind !== "string") return;
    imports.push({ specifier: token.text, line: token.line, ...flags });
  };
  for (let i = 0; i < tokens.length; i++) {
    const keyword = text(i);
    if ((keyword !== "import" && keyword !== "export") || text(i - 1) === ".") continue;
    if (keyword === "import" && text(i + 1) === "(") {
      add(i + 2, { runtime: true, dynamic: true });
    } else if (keyword === "import" && tokens[i + 1]?.kind === "string") {
      add(i + 1, { runtime: true, dynamic: false });
    } else {
      const from = endOfClause(tokens, i + 1);
      if (text(from) !== "from") continue;
      const clause = tokens.slice(i + 1, from).map((token) => token.text);
      add(from + 1, { runtime: !isTypeOnly(clause), dynamic: false });
    }
  }
  return imports;
}

/** First index at or after `i` that cannot belong to the names between `import` or `export` and `from`. */
function endOfClause(tokens: readonly Token[], i: number): number {
  for (; i < tokens.length; i++) {
    const token = tokens[i];
    const isName = token?.kind === "word" || /^[{},*]$/.test(token?.text ?? "");
    const isFrom = token?.text === "from" && tokens[i + 1]?.kind === "string";
    if (!isName && token?.kind !== "string" || isFrom) return i;
  }
  return i;
}

function isTypeOnly(clause: readonly string[]): boolean {
  if (clause[0] === "type" && clause.length > 1 && clause[1] !== ",") return true;
  if (clause[0] !== "{") return false;
  const names = clause.slice(1, -1).join(" ").split(",").map((name) => name.trim()).filter(Boolean);
  return names.length > 0 && names.every((name) => /^type (?!as )/.test(name));
}

const TRIVIA = /(?:\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\/)+|^#!.*/uy;
const WORD = /[\p{ID_Start}$_#\d][\p{ID_Continue}$]*/uy;
const STRING = /"(?:[^"\\\n]|\\[\s\S])*"?|'(?:[^'\\\n]|\\[\s\S])*'?/uy;
const REGEXP = /\/(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/uy;
const TEMPLATE_TEXT = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*(?:`|\$\{|$)/uy;
const OPERAND_BEFORE_REGEXP =
  /^(?:return|typeof|case|in|of|delete|void|throw|new|yield|await|else|do)$/;

function* tokenize(source: string): Generator<Token> {
  let at = 0, line = 1;
  let previous: Token | undefined;
  /** One entry per open brace: whether closing it continues a template's text. */
  const braces: boolean[] = [];
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(source)?.[0];
    if (!found) return undefined;
    at += found.length;
    return found;
  };
  const skipTemplateText = (): string => {
    const skipped = match(TEMPLATE_TEXT) ?? "";
    if (skipped.endsWith("${")) braces.push(true);
    return skipped;
  };
  /** A slash after an operand divides; anywhere else it opens a regular expression. */
  const endsOperand = (token: Token | undefined): boolean =>
    token?.kind === "string" ||
    token?.kind === "word" && !OPERAND_BEFORE_REGEXP.test(token.text) ||
    /^[)\]}]$/.test(token?.text ?? "");

  while (at < source.length) {
    const start = at;
    const found = match(TRIVIA);
    let token: Token | undefined;
    if (found === undefined) {
      const word = match(WORD);
      const quoted = word === undefined ? match(STRING) : undefined;
      if (word !== undefined) token = { kind: "word", text: word, line };
      else if (quoted !== undefined) token = { kind: "string", text: quoted.slice(1, -1), line };
      else if (source[at] === "/" && !endsOperand(previous) && match(REGEXP) !== undefined) {
        token = { kind: "string", text: "", line };
      } else {
        const text = source[at++] ?? "";
        token = { kind: "punctuation", text, line };
        if (text === "{") braces.push(false);
        if (text === "`" || text === "}" && braces.pop()) {
          const body = skipTemplateText();
          const whole = text === "`" && body.endsWith("`");
          token = { kind: "string", text: whole ? body.slice(0, -1) : "", line };
        }
      }
    }
    for (let i = start; i < at; i++) if (source[i] === "\n") line++;
    if (token === undefined) continue;
    previous = token;
    yield token;
  }
}
