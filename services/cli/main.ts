import { InputError, nearest } from "../../base/mod.ts";
import { type Command, exitCodes, helpOf, parseCommand, UsageError } from "./command.ts";
import { compose } from "./commands/compose.ts";
import { completion } from "./commands/completion.ts";
import { demo } from "./commands/demo.ts";
import { doctor } from "./commands/doctor.ts";
import { down } from "./commands/down.ts";
import { evaluate } from "./commands/eval.ts";
import { exportLora } from "./commands/export.ts";
import { fetchModel } from "./commands/fetch.ts";
import { gpu } from "./commands/gpu.ts";
import { health } from "./commands/health.ts";
import { init } from "./commands/init.ts";
import { plan } from "./commands/plan.ts";
import { resume, runs, save, stop, watch } from "./commands/runs.ts";
import { sample } from "./commands/sample.ts";
import { score } from "./commands/score.ts";
import { status } from "./commands/status.ts";
import { study } from "./commands/study.ts";
import { swap } from "./commands/swap.ts";
import { trace } from "./commands/trace.ts";
import { train } from "./commands/train.ts";
import { up } from "./commands/up.ts";
import { workers } from "./commands/workers.ts";
import { typed } from "./typed.ts";

/** Every command, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  demo,
  init,
  up,
  down,
  status,
  doctor,
  compose,
  fetchModel,
  gpu,
  health,
  score,
  plan,
  train,
  watch,
  runs,
  stop,
  save,
  resume,
  swap,
  sample,
  evaluate,
  study,
  exportLora,
  workers,
  trace,
  completion(() => COMMANDS),
];

/** Help over all commands. */
function overview(): string {
  const width = Math.max(...COMMANDS.map((c) => c.name.length)) + 2;
  return [
    "Tune text-to-image diffusion models with the gradients of reward models.",
    "",
    `Usage: ${typed("COMMAND [OPTIONS]")}`,
    "",
    "Commands:",
    ...COMMANDS.map((c) => `  ${c.name.padEnd(width)}${c.summary}`),
    "",
    `"${typed("COMMAND --help")}" shows a command's options and examples.`,
    "",
    ...exitCodes(),
  ].join("\n");
}

/**
 * Runs one command line. Exit codes: 0 done, 1 failed, 2 wrong words, 130 interrupted.
 */
export async function main(words: readonly string[], signal: AbortSignal): Promise<number> {
  const [name, ...rest] = words;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    console.log(overview());
    return name === undefined ? 2 : 0;
  }
  const command = COMMANDS.find((c) => c.name === name);
  if (command === undefined) {
    const near = nearest(name, COMMANDS.map((c) => c.name));
    const hint = near === undefined ? "" : `, did you mean ${near}?`;
    console.error(`No command "${name}"${hint}\n"${typed("--help")}" lists them`);
    return 2;
  }
  try {
    const args = parseCommand(command, rest);
    if (args.help) {
      console.log(helpOf(command));
      return 0;
    }
    return await command.run(args, signal);
  } catch (error) {
    if (signal.aborted) {
      console.error("Interrupted");
      return 130;
    }
    const message = error instanceof Error ? error.message : String(error);
    console.error(`drtune ${name}: ${message}`);
    if (error instanceof UsageError) console.error(`See "${typed(`${name} --help`)}"`);
    if (error instanceof InputError) return 2;
    if (Deno.env.get("DRTUNE_DEBUG") && error instanceof Error) console.error(error.stack);
    return 1;
  }
}

if (import.meta.main) {
  const interrupt = new AbortController();
  // Windows has no SIGTERM, and Deno throws there.
  const signals = ["SIGINT", ...(Deno.build.os === "windows" ? [] : ["SIGTERM" as const])] as const;
  for (const name of signals) {
    Deno.addSignalListener(name, () => {
      // The second signal ends at once: whatever hangs, a person can leave.
      if (interrupt.signal.aborted) Deno.exit(130);
      interrupt.abort(new Error("Interrupted"));
    });
  }
  Deno.exit(await main(Deno.args, interrupt.signal));
}
