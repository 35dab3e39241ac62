import { parseArgs, type ParseArgsOptionDescriptor } from "node:util";
import { InputError, nearest } from "../../base/mod.ts";

/** One option of a command or a service: node:util's descriptor and what help says about it. */
export interface Option extends ParseArgsOptionDescriptor {
  /** Shown in help after the option's name: "FILE", "N". Absent for switches. */
  readonly value?: string;
  readonly help: string;
}

/** Options and positional arguments as given, checked against the command's table. */
export class Arguments {
  readonly positionals: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>, positionals: readonly string[]) {
    this.#values = values;
    this.positionals = positionals;
  }

  /** True where a switch was given. */
  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  /** The text of an option; `undefined` where it was not given. */
  text(name: string): string | undefined {
    const v = this.#values[name];
    return typeof v === "string" ? v : undefined;
  }

  /** The text of an option that must be given. */
  required(name: string): string {
    const v = this.text(name);
    if (v === undefined) throw new UsageError(`Option --${name} is missing`);
    return v;
  }

  /** The text of an option that is one of some names. */
  oneOf<T extends string>(name: string, names: readonly T[]): T | undefined {
    const text = this.text(name);
    const found = names.find((known) => known === text);
    if (text === undefined || found !== undefined) return found;
    throw new UsageError(
      `Option --${name} is ${JSON.stringify(text)}, expected ${names.join(", ")}`,
    );
  }

  /** Every text given for an option that may be repeated. */
  list(name: string): readonly string[] {
    const v = this.#values[name];
    return Array.isArray(v) ? v.filter((x): x is string => typeof x === "string") : [];
  }

  /** A number within bounds. */
  number(
    name: string,
    { min = -Infinity, max = Infinity, integer = false }: {
      readonly min?: number;
      readonly max?: number;
      readonly integer?: boolean;
    } = {},
  ): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const n = text.trim() === "" ? NaN : Number(text);
    if (!Number.isFinite(n) || n < min || n > max || (integer && !Number.isInteger(n))) {
      const range = `${min === -Infinity ? "" : ` from ${min}`}${
        max === Infinity ? "" : ` to ${max}`
      }`;
      throw new UsageError(
        `Option --${name} is "${text}", expected a ${integer ? "whole " : ""}number${range}`,
      );
    }
    return n;
  }
}

/** Wrong words on a command line: exit code 2. */
export class UsageError extends InputError {
  override readonly name = "UsageError";
}

/** The table of a program's options, by their names without dashes. */
export type Options = Readonly<Record<string, Option>>;

/** The option that every program has. */
export const HELP: Option = { type: "boolean", short: "h", help: "show this help" };

/** Parses words by a table. Throws `UsageError` for unknown options and missing values. */
export function parseOptions(
  options: Options,
  words: readonly string[],
): Arguments & { readonly help: boolean } {
  try {
    const { values, positionals } = parseArgs({
      args: [...words],
      options: { ...options, help: HELP },
      allowPositionals: true,
      strict: true,
    });
    return Object.assign(new Arguments(values, positionals), { help: values["help"] === true });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const unknown = /^Unknown option '(-[^']*)'/.exec(message)?.[1];
    throw new UsageError(unknown === undefined ? message : unknownOption(unknown, options));
  }
}

function unknownOption(word: string, options: Options): string {
  const names = Object.keys({ ...options, help: HELP }).map((name) => `--${name}`);
  const near = nearest(word, names);
  return `No option ${word}${near === undefined ? "" : `, did you mean ${near}?`}`;
}

/** A line of help for each option. */
export function optionLines(options: Options): readonly string[] {
  const rows = Object.entries({ ...options, help: HELP }).map(([name, o]) => {
    const short = o.short === undefined ? "    " : `-${o.short}, `;
    return [`  ${short}--${name}${o.value === undefined ? "" : ` ${o.value}`}`, o.help] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, help]) => `${left.padEnd(width)}${help}`);
}
