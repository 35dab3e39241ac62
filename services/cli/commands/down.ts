import { type Command, UsageError } from "../command.ts";
import { duration } from "../progress.ts";
import { STACK_OPTION } from "../stack/option.ts";
import { readStack, stackFile } from "../stack/read_stack.ts";
import { StateFolder } from "../stack/state_folder.ts";

const POLL_MS = 100;

/** Ends the stack. */
export const down: Command = {
  name: "down",
  summary: "End the stack: runs finish their step and write a checkpoint",
  usage: "[--stack FILE]",
  options: STACK_OPTION,
  examples: ["drtune down", "drtune down --stack my-stack.yaml"],
  async run(args, signal) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const { state, name } = await readStack(await stackFile(args.text("stack")));
    const folder = new StateFolder(state);
    const running = await folder.running();
    if (running === undefined) {
      console.error(`Stack ${name} is not running`);
      return 0;
    }
    const started = performance.now();
    Deno.kill(running.pid, "SIGTERM");
    console.error(`Stopping stack ${running.name}: the trainer finishes its step`);
    while (await folder.running() !== undefined) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      signal.throwIfAborted();
    }
    console.error(`Stopped after ${duration((performance.now() - started) / 1000)}`);
    return 0;
  },
};
