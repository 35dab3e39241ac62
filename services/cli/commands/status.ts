import { type Command, UsageError } from "../command.ts";
import { duration } from "../progress.ts";
import { STACK_OPTION } from "../stack/option.ts";
import { readStack, stackFile } from "../stack/read_stack.ts";
import { StateFolder } from "../stack/state_folder.ts";
import { table } from "../stack/table.ts";
import { typed } from "../typed.ts";

/** Shows the stack's services. */
export const status: Command = {
  name: "status",
  summary: "Show the stack's services",
  usage: "[--stack FILE] [--json]",
  options: { ...STACK_OPTION, json: { type: "boolean", help: "print JSON" } },
  examples: ["drtune status", "drtune status --json"],
  exitCodes: { 0: "everything is ready", 1: "a service is not ready", 3: "not running" },
  async run(args) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const { state: path, name, file } = await readStack(await stackFile(args.text("stack")));
    const state = await new StateFolder(path).running();
    if (args.flag("json")) {
      console.log(JSON.stringify(
        state === undefined ? { name, file, running: false } : {
          running: true,
          ...state,
        },
      ));
    } else if (state === undefined) {
      console.error(`Stack ${name} (${file}) is not running; "${typed("up")}" starts it`);
    } else {
      const ago = (time: string) => duration((Date.now() - Date.parse(time)) / 1000);
      console.log(
        `Stack ${state.name}, up ${ago(state.startedAt)}, process ${state.pid}, ${state.file}`,
      );
      console.log(table([
        ["NAME", "KIND", "STATE", "FOR", "ADDRESS", "PROCESS", "RESTARTS", ""],
        ...state.services.map((s) => [
          s.name,
          s.kind,
          s.state,
          ago(s.since),
          s.address,
          s.pid === undefined ? "-" : String(s.pid),
          String(s.restarts),
          s.reason.split("\n", 1)[0] ?? "",
        ]),
      ].map((row) => row.at(-1) === "" ? row.slice(0, -1) : row)));
    }
    if (state === undefined) return 3;
    return state.services.every((s) => s.state === "ready") ? 0 : 1;
  },
};
