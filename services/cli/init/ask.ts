import { type Arguments, UsageError } from "../command.ts";

/** Answers a question by an option, else by asking where somebody sits at a terminal, else by what is usual. */
export function ask(
  args: Arguments,
  { option, question, usual }: {
    readonly option: string;
    readonly question: string;
    readonly usual: string;
  },
): string {
  const given = args.text(option);
  if (given !== undefined) return given;
  if (!Deno.stdin.isTerminal()) return usual;
  // As a default of `prompt` it would stand in the line already, and be typed behind.
  const answer = prompt(usual === "" ? `${question}:` : `${question} [${usual}]:`);
  if (answer === null) throw new UsageError(`Nobody answered: give --${option}`);
  return answer.trim() === "" ? usual : answer.trim();
}
