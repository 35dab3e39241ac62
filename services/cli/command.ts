import { type Arguments, optionLines, type Options, parseOptions } from "../launch/mod.ts";
import { typed } from "./typed.ts";

export { type Arguments, HELP, type Option, UsageError } from "../launch/mod.ts";

/** A subcommand. */
export interface Command {
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** After "drtune NAME". */
  readonly usage: string;
  readonly options: Options;
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

/** Parses a command's words. Throws `UsageError` for unknown options and missing values. */
export function parseCommand(
  { options }: Command,
  words: readonly string[],
): Arguments & { readonly help: boolean } {
  return parseOptions(options, words);
}

/** The help text of a command. */
export function helpOf(command: Command): string {
  return [
    `${command.summary}`,
    "",
    `Usage: ${typed(`${command.name} ${command.usage}`)}`,
    "",
    "Options:",
    ...optionLines(command.options),
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
