import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { main } from "./main.ts";

/** The exit code and all that was printed. */
async function run(...words: readonly string[]): Promise<[code: number, text: string]> {
  const said: unknown[] = [];
  const { error, log } = console;
  console.error = console.log = (...args) => said.push(...args);
  try {
    return [await main(words, new AbortController().signal), said.join("\n")];
  } finally {
    Object.assign(console, { error, log });
  }
}

Deno.test("Wrong words are answered by the nearest right ones, and exit code 2", async () => {
  const cases: [string[], RegExp][] = [
    [[], /^Tune text-to-image/],
    [["statsu"], /^No command "statsu", did you mean status\?/],
    [["frobnicate"], /^No command "frobnicate"\n/],
    [["train", "--confg", "x"], /No option --confg, did you mean --config\?/],
    [["up", "--stack", "/none/stack.yaml"], /\/none\/stack\.yaml: does not exist/],
    [["swap", "books-1"], /Give one of --set, --remove and --mixture/],
    [["health"], /Name an address/],
    [
      ["trace", "--case", "/none", "--out", "a"],
      /--case is \/none, expected a folder with case\.json/,
    ],
    [
      ["plan", "--config", "configs/tiny.yaml", "--models", "/none"],
      /Folder of models \/none is not there/,
    ],
    [
      ["score", "--rewards", "deploy/stack.yaml", "--image", "docs/images"],
      /stack\.yaml:\d+: Reward /,
    ],
    [["completion", "csh"], /Shell is csh, expected bash, zsh or fish/],
  ];
  for (const [words, message] of cases) {
    const [code, text] = await run(...words);
    assert.equal(code, 2, words.join(" "));
    assert.match(text, message);
  }
});

Deno.test("A file that cannot be used ends a command with exit code 2, as wrong words do", async () => {
  const file = await Deno.makeTempFile({ suffix: ".txt" });
  try {
    await Deno.writeFile(file, Uint8Array.from([0xe9, 0x74, 0xe9, 0x0a]));
    const [code, text] = await run("sample", "--model", "zoo/pipeline", "--prompts", file);
    assert.equal(code, 2, text);
    assert.match(text, /is not UTF-8/);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("Every command's help has options, examples and exit codes", async () => {
  const [code, text] = await run("--help");
  assert.equal(code, 0);
  const names = [...text.matchAll(/^ {2}([a-z]+) {2,}\S/gm)].map((m) => m[1] ?? "");
  assert(names.length >= 15, names.join());
  for (const name of names) {
    const [code, help] = await run(name, "--help");
    assert.equal(code, 0, name);
    assert.match(help, /\nExamples:\n {2}.*drtune [\s\S]*\nExit codes:\n/, name);
    assert(help.includes(`drtune ${name}`), `No example of ${name}`);
  }
});

Deno.test("Health of an address that nobody listens on is an answer, not a crash", async () => {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  for (const address of [`127.0.0.1:${port}`, `http://127.0.0.1:${port}`]) {
    const [code, text] = await run("health", address, "--json", "--timeout", "2");
    assert.equal(code, 1);
    assert.deepEqual(Object.keys(JSON.parse(text)), ["address", "healthy", "status"]);
  }
});

for (const shell of ["bash", "zsh", "fish"]) {
  Deno.test({
    name: `The completion script is one that ${shell} reads`,
    ignore: spawnSync(shell, ["-c", "true"]).status !== 0,
    async fn() {
      const [code, script] = await run("completion", shell);
      assert.equal(code, 0);
      const { status, stderr } = spawnSync(shell, ["-n"], { input: script });
      assert.equal(status, 0, String(stderr));
      if (shell !== "bash") return;
      const typed = 'COMP_WORDS=(drtune up --st); COMP_CWORD=2; _drtune; echo "${COMPREPLY[@]}"';
      const { stdout } = spawnSync("bash", ["-c", `${script}\n${typed}`]);
      assert.equal(String(stdout).trim(), "--stack");
    },
  });
}
