import assert from "node:assert/strict";
import { type Command, parseCommand, UsageError } from "../command.ts";
import { ask } from "./ask.ts";

const command: Command = {
  name: "init",
  summary: "",
  usage: "",
  options: { model: { type: "string", value: "MODEL", help: "" } },
  examples: [],
  run: () => Promise.resolve(0),
};

/** What comes of a question to somebody at a terminal who answers so, and what was shown before the answer. */
function asked(answer: string | null, words: readonly string[] = []) {
  const shown: (string | undefined)[] = [];
  const { prompt } = globalThis;
  const { isTerminal } = Deno.stdin;
  globalThis.prompt = (...texts: (string | undefined)[]) => {
    shown.push(...texts);
    return answer;
  };
  Deno.stdin.isTerminal = () => true;
  try {
    const question = { option: "model", question: "Model", usual: "sd15" };
    return { result: ask(parseCommand(command, words), question), shown };
  } finally {
    Object.assign(globalThis, { prompt });
    Object.assign(Deno.stdin, { isTerminal });
  }
}

Deno.test("What is usual is shown and not typed; an empty line takes it, an option asks nothing", () => {
  assert.deepEqual(asked("sdxl"), { result: "sdxl", shown: ["Model [sd15]:"] });
  assert.deepEqual(asked(" "), { result: "sd15", shown: ["Model [sd15]:"] });
  assert.deepEqual(asked("sdxl", ["--model", "z-image"]), { result: "z-image", shown: [] });
  assert.throws(() => asked(null), UsageError);
});
