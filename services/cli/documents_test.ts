import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseCommand } from "./command.ts";
import { COMMANDS } from "./main.ts";

// What the documents tell a reader to type must at least exist: commands, their options, tasks, files, links.

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const DOCUMENTS = ["README.md", "CONTRIBUTING.md", "zoo/README.md", "tests/golden/README.md"]
  .concat(
    ["docs", "docs/studies"].flatMap((folder) =>
      [...Deno.readDirSync(`${ROOT}${folder}`)].map(({ name }) => `${folder}/${name}`)
    ),
  )
  .filter((name) => name.endsWith(".md"));
const TASKS: Record<string, string> = JSON.parse(readFileSync(`${ROOT}deno.json`, "utf8")).tasks;

/** The simple commands of a document's shell blocks, as words; what runs up to a pipe or a redirection. */
function shellCommands(text: string): string[][] {
  const blocks = [...text.matchAll(/```sh\n(.*?)```/gs)].map(([, block = ""]) =>
    block.replaceAll("\\\n", " ").replaceAll(/<<'(\w+)'\n.*?\n\1/gs, "")
  );
  return blocks.flatMap((block) => block.split("\n")).flatMap((line) => commandsOf(line));
}

function commandsOf(line: string): string[][] {
  const found: string[][] = [[]];
  let isPath = false;
  for (const [word] of line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'|&;<>#])+|[|&;<>#]+/g)) {
    if (/^[|&;]+$/.test(word)) found.push([]);
    else if (word.startsWith("#")) break;
    else if (/^[<>]+$/.test(word)) isPath = true;
    else if (isPath) isPath = false;
    else found.at(-1)?.push(word.replaceAll(/"([^"]*)"|'([^']*)'/g, "$1$2"));
  }
  return found.map(withoutRunner).filter((words) => words.length > 0);
}

/** `npx --yes deno@2.9.6 task x` is `deno task x`, `./drtune x` is `drtune x`; variables set before a command are left out. */
function withoutRunner(words: readonly string[]): string[] {
  const start = words.findIndex((w) => !/^\w+=/.test(w));
  const rest = start < 0 ? [] : words.slice(start);
  if (rest[0] === "./drtune") return ["drtune", ...rest.slice(1)];
  if (rest[0] === "npx" && rest[2]?.startsWith("deno@")) return ["deno", ...rest.slice(3)];
  return rest;
}

function check(words: readonly string[]): void {
  const [program, verb, name = "", ...rest] = words;
  if (program === "drtune") return checkDrtune(words.slice(1));
  if (program !== "deno") return;
  if (verb === "task") {
    if (name === "drtune") return checkDrtune(rest);
    assert.ok(TASKS[name], `No task "${name}"`);
    checkOptions(TASKS[name].split(" ").find((w) => w.endsWith(".ts")) ?? "", rest);
  }
  const at = words.findIndex((w) => w.endsWith(".ts"));
  if (verb === "run" && at > 0) checkOptions(words[at] ?? "", words.slice(at + 1));
}

function checkDrtune([name, ...words]: readonly string[]): void {
  if (name === undefined || name === "--help") return;
  const command = COMMANDS.find((c) => c.name === name);
  assert.ok(command, `No command "${name}"`);
  parseCommand(command, words);
}

/** A program names its options in its own text. */
function checkOptions(file: string, words: readonly string[]): void {
  if (file === "") return;
  assert.ok(existsSync(ROOT + file), `No file ${file}`);
  const text = readFileSync(ROOT + file, "utf8");
  for (const word of words.filter((w) => w.startsWith("--"))) {
    const option = word.slice(2).split("=")[0] ?? "";
    const known = text.includes(`--${option}`) || text.includes(`${option}: {`);
    // The demo's task is the command line with its first word given.
    if (file.endsWith("cli/main.ts")) checkDrtune(["demo", ...words]);
    else assert.ok(known, `${file} has no option --${option}`);
  }
}

for (const document of DOCUMENTS) {
  Deno.test(`${document}: commands and links exist`, () => {
    const text = readFileSync(ROOT + document, "utf8");
    for (const words of shellCommands(text)) {
      try {
        check(words);
      } catch (error) {
        assert.fail(`${words.join(" ")}: ${error instanceof Error ? error.message : error}`);
      }
    }
    for (const [, target = ""] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(?:https?:|#)/.test(target)) continue;
      const path = join(ROOT, dirname(document), target.split("#")[0] ?? "");
      assert.ok(existsSync(path), `Link to ${target}, which does not exist`);
    }
  });
}

Deno.test("examples in the help of every command can be typed", () => {
  for (const { examples } of COMMANDS) {
    for (const words of examples.flatMap((line) => commandsOf(line))) {
      if (words[0] === "drtune") checkDrtune(words.slice(1));
    }
  }
});

Deno.test("a command that does not exist is found", () => {
  const wrong = [
    "deno task nothing",
    "drtune nothing",
    "drtune score --nothing a",
    "deno run -A no.ts",
  ];
  for (const line of wrong) {
    assert.throws(() => commandsOf(`X=1 ${line} | cat > out`).forEach(check), line);
  }
});
