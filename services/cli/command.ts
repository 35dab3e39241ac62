import { nearest } from "../../base/mod.ts";
import { parseArgs, type ParseArgsOptionDescriptor } from "node:util";
import { typed } from "./typed.ts";

/** One option of a command: node:util's descriptor and what help says about it. */
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

/** A subcommand. */
export interface Command {
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** After "drtune NAME". */
  readonly usage: string;
  readonly options: Readonly<Record<string, Option>>;
  readonly examples: readonly string[];
  /** Exit codes that mean something else here than everywhere, see `EXIT_CODES`. */
  readonly exitCodes?: Readonly<Record<number, string>>;
  /** Returns the exit code. */
  run(args: Arguments, signal: AbortSignal): Promise<number>;
}

/** What a command's exit code means unless it says otherwise. */
const EXIT_CODES: Readonly<Record<number, string>> = {
  0: "done",
  1: "failed; the reason is on stderr",
  2: "wrong words or a faulty file",
  130: "interrupted",
};

/** Wrong words on the command line: exit code 2, the message and a hint to --help. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The option every command has. */
export const HELP: Option = { type: "boolean", short: "h", help: "show this help" };

/** Parses a command's words. Throws `UsageError` for unknown options and missing values. */
export function parseCommand(
  command: Command,
  words: readonly string[],
): Arguments & { readonly help: boolean } {
  try {
    const { values, positionals } = parseArgs({
      args: [...words],
      options: { ...command.options, help: HELP },
      allowPositionals: true,
      strict: true,
    });
    return Object.assign(new Arguments(values, positionals), { help: values["help"] === true });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const unknown = /^Unknown option '(-[^']*)'/.exec(message)?.[1];
    throw new UsageError(unknown === undefined ? message : unknownOption(unknown, command));
  }
}

function unknownOption(word: string, { options }: Command): string {
  const names = Object.keys({ ...options, help: HELP }).map((name) => `--${name}`);
  const near = nearest(word, names);
  return `No option ${word}${near === undefined ? "" : `, did you mean ${near}?`}`;
}

/** The help text of a command. */
export function helpOf(command: Command): string {
  const rows = Object.entries({ ...command.options, help: HELP }).map(([name, o]) => {
    const short = o.short === undefined ? "    " : `-${o.short}, `;
    return [`  ${short}--${name}${o.value === undefined ? "" : ` ${o.value}`}`, o.help] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return [
    `${command.summary}`,
    "",
    `Usage: ${typed(`${command.name} ${command.usage}`)}`,
    "",
    "Options:",
    ...rows.map(([left, help]) => `${left.padEnd(width)}${help}`),
    "",
    "Examples:",
    ...command.examples.map((e) => `  ${e.replace(/^drtune /, typed(""))}`),
    "",
    ...exitCodes(command.exitCodes),
  ].join("\n");
}

/** What exit codes mean, for help. */
export function exitCodes(own: Readonly<Record<number, string>> = {}): readonly string[] {
  const rows = Object.entries({ ...EXIT_CODES, ...own });
  return ["Exit codes:", ...rows.map(([code, meaning]) => `  ${code.padEnd(5)}${meaning}`)];
}
