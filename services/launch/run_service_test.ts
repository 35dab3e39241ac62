import assert from "node:assert/strict";
import { runService } from "./run_service.ts";

/** The exit code and all that was printed. */
async function run(
  words: readonly string[],
  start: () => Promise<never> = () => Promise.reject(new Error("Not to be started")),
): Promise<[code: number, text: string]> {
  const said: unknown[] = [];
  const { error, log } = console;
  console.error = console.log = (...args) => said.push(...args);
  try {
    const options = { port: { type: "string", value: "PORT", help: "port to listen on" } } as const;
    const code = await runService({ entry: "services/x/main.ts", options, start }, words);
    return [code, said.join("\n")];
  } finally {
    Object.assign(console, { error, log });
  }
}

Deno.test("A service's help has each option, and wrong words end with code 2 and the right ones", async () => {
  const [code, help] = await run(["--help"]);
  assert.equal(code, 0);
  assert.match(
    help,
    /^Usage: deno run -A services\/x\/main\.ts \[options\]\n\n {6}--port PORT {2}/,
  );
  assert.deepEqual(await run(["--prot", "1"]), [2, "No option --prot, did you mean --port?"]);
  assert.deepEqual(await run(["there"]), [2, 'Unexpected "there"']);
});

Deno.test("A service that cannot start ends with code 1 and its reason", async () => {
  assert.deepEqual(await run([], () => Promise.reject(new Error("Port 1 is in use"))), [
    1,
    "Port 1 is in use",
  ]);
});
