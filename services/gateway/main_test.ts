import assert from "node:assert/strict";
import { main } from "./main.ts";
import { startFakeStack } from "./testing/fake_stack.ts";

const MAIN = new URL("main.ts", import.meta.url);

function spawn(...args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-prompt", "--no-check", MAIN.pathname, ...args],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** The exit code and what was said on stderr. */
async function failure(args: readonly string[]): Promise<[code: number, message: string]> {
  const said: unknown[] = [];
  const { error } = console;
  console.error = (...args) => said.push(...args);
  try {
    return [await main(args), said.join("\n")];
  } finally {
    console.error = error;
  }
}

Deno.test("The process says that it is ready, serves, and ends streams when it is told to end", async () => {
  await using stack = await startFakeStack();
  const tokenFile = `${stack.runs}/../token`;
  const token = "0123456789abcdef";
  await Deno.writeTextFile(tokenFile, `${token}\n`);
  const rewards = [...stack.rewards].map((entry) => entry.join("=")).join(",");
  const flags = ["--trainer", stack.address, "--rewards", rewards, "--runs", stack.runs];
  const child = spawn(...flags, "--token-file", tokenFile, "--port", "0", "--log-level", "warn");
  const stdout = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { event, address } = JSON.parse((await stdout.read()).value ?? "");
  assert.equal(event, "ready");

  const headers = { authorization: `Bearer ${token}` };
  const image = `http://${address}/v1/runs/foxes/images/samples/step-000020/0.png`;
  const refused = await fetch(image);
  await refused.body?.cancel();
  assert.equal(refused.status, 401);
  assert.equal((await (await fetch(image, { headers })).bytes())[1], "P".charCodeAt(0));

  const overview = await fetch(`http://${address}/v1/overview`, { headers });
  child.kill("SIGTERM");
  assert.match(await overview.text(), /event: error\ndata: .*The gateway is stopping.*\n\n$/);
  await stdout.cancel();
  // Nothing worth a warning happened.
  assert.doesNotMatch(await new Response(child.stderr).text(), /^\{/m);
  assert.deepEqual((await child.status).code, 0);
});

Deno.test("What is wrong with a command line, a port or a file is said at start", async () => {
  const taken = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const short = await Deno.makeTempFile();
  await Deno.writeTextFile(short, "short\n");
  const trainer = ["--trainer", "127.0.0.1:50060"];
  try {
    const cases: [string[], number, RegExp][] = [
      [[], 2, /^Option --trainer is missing$/],
      [
        ["--trainer", "here"],
        2,
        /^Option --trainer is "here", expected HOST:PORT or grpcs:\/\/HOST:PORT$/,
      ],
      [
        [...trainer, "--rewards", "clip"],
        2,
        /^Option --rewards has "clip", expected NAME=HOST:PORT$/,
      ],
      [
        [...trainer, "--port", "99999"],
        2,
        /^Option --port is "99999", expected a whole number from 0 to 65535$/,
      ],
      [[...trainer, "--colour"], 2, /--colour/],
      [
        [...trainer, "--port", String(taken.addr.port)],
        1,
        /^Cannot listen on .*: the port is in use$/,
      ],
      [
        [...trainer, "--token-file", short],
        2,
        /^Token in .* has 5 characters, expected at least 16/,
      ],
      [[...trainer, "--token-file", "/none"], 2, /^Token file \/none cannot be read: /],
      [[...trainer, "--runs", short, "--port", "0"], 1, /^Folder of runs .* cannot be read: /],
    ];
    for (const [args, code, message] of cases) {
      const [foundCode, said] = await failure(args);
      assert.equal(foundCode, code, args.join(" "));
      assert.match(said, message);
    }
  } finally {
    taken.close();
    await Deno.remove(short);
  }
});
