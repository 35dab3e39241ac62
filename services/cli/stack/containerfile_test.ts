import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { COMMANDS } from "../main.ts";
import { ROOT } from "./read_stack.ts";

const FILE = Deno.readTextFileSync(join(ROOT, "deploy/Containerfile"));

/** Its instructions, each on one line. */
const INSTRUCTIONS = FILE.replaceAll(/^#.*\n/gm, "").replaceAll(/\\\n\s*/g, "").split("\n")
  .filter((line) => line !== "");

/** Folders and files that the build is given: those that .dockerignore lets through. */
const GIVEN = Deno.readTextFileSync(join(ROOT, ".dockerignore")).split("\n")
  .flatMap((line) => line.startsWith("!") ? [line.slice(1)] : []);
const isGiven = (path: string) =>
  existsSync(join(ROOT, path)) &&
  GIVEN.some((name) => path === name || path.startsWith(`${name}/`));

Deno.test("Every stage that the Containerfile and the compose files name is there, and the plain one is last", () => {
  const stages = INSTRUCTIONS.flatMap((line) => /^FROM \S+ AS (\w+)$/.exec(line)?.[1] ?? []);
  assert.equal(stages.at(-1), "services");
  const froms = INSTRUCTIONS.flatMap((line) =>
    [
      ...line.matchAll(/^FROM (\S+)|^COPY --from=(\S+)/g),
    ].map(([, image, stage]) => image ?? stage ?? "")
  );
  for (const from of froms) {
    assert.ok(stages.includes(from) || /^[a-z]+:[\w.-]+$/.test(from), `No stage or image ${from}`);
  }
  for (const name of ["compose.yaml", "compose.gpu.yaml", "compose.cdi.yaml"]) {
    const { services } = parse(Deno.readTextFileSync(join(ROOT, "deploy", name)));
    for (const { build } of Object.values<{ build?: Record<string, string> }>(services)) {
      if (build === undefined) continue;
      assert.equal(
        join("deploy", build["context"] ?? "", build["dockerfile"] ?? ""),
        "deploy/Containerfile",
      );
      const target = name === "compose.yaml" ? undefined : "nvidia";
      assert.equal(build["target"], target);
    }
  }
});

Deno.test("Every file that the Containerfile names is one that the build is given", () => {
  const copied = INSTRUCTIONS.flatMap((line) => /^COPY (?!--from)(\S+) /.exec(line)?.[1] ?? []);
  for (const path of copied) assert.ok(path === "." || isGiven(path), path);
  const modules = [...FILE.matchAll(/(?:[\w-]+\/)+[\w-]+\.ts/g)].map(([path]) => path);
  assert.ok(modules.length > 8, modules.join());
  for (const path of modules) assert.ok(isGiven(path.replace(/^app\//, "")), path);
});

Deno.test("The NVIDIA stage runs a command that is there, before anything is taken from it", () => {
  const words = /services\/cli\/main\.ts (gpu setup --force)/.exec(FILE)?.[1]?.split(" ") ?? [];
  const command = COMMANDS.find(({ name }) => name === words[0]);
  assert.ok(command && "force" in command.options && words[1] === "setup");
  const [cuda, copy] = [FILE.indexOf("gpu setup"), FILE.indexOf("COPY --from=cuda")];
  assert.ok(cuda > 0 && copy > cuda);
  // The entry point's code looks for the libraries below /app, where the build's stage has them.
  assert.match(FILE, /mv \.cache\/cuda\/lib \/cuda\/app\/\.cache\/cuda\//);
});
