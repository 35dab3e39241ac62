import assert from "node:assert/strict";
import { checkImports } from "./check_imports.ts";
import { parseImports } from "./_parse_imports.ts";

/** Checks a tree written as { path: source } and returns its problems as printed lines. */
function problems(tree: Record<string, string>): string[] {
  return checkImports(new Map(Object.entries(tree))).map((p) =>
    `${p.file}:${p.line}: ${p.message}`
  );
}

Deno.test("parseImports finds every form with its line and whether it exists at run time", () => {
  const source = [
    `#!/usr/bin/env -S deno run "not this"`,
    `import "./effect.ts";`,
    `import a, { b as c, type D } from "./mixed.ts";`,
    `import {`,
    `  type E,`,
    `  type F as G,`,
    `} from './types.ts';`,
    `import type { H } from "./h.ts"; import type I from "./i.ts";`,
    `import type from "./a_value_called_type.ts";`,
    `import * as ns from "./star.ts";`,
    `export * from "./all.ts"; export * as named from "./named.ts";`,
    `export { a, c }; export type { H } from "./reexported.ts";`,
    `const lazy = () => import("./lazy.ts");`,
    "const also = import(`./template.ts`);",
    `import data from "./data.json" with { type: "json" };`,
  ].join("\n");
  assert.deepEqual(
    parseImports(source).map((i) => [i.specifier, i.line, i.runtime, i.dynamic]),
    [
      ["./effect.ts", 2, true, false],
      ["./mixed.ts", 3, true, false],
      ["./types.ts", 7, false, false],
      ["./h.ts", 8, false, false],
      ["./i.ts", 8, false, false],
      ["./a_value_called_type.ts", 9, true, false],
      ["./star.ts", 10, true, false],
      ["./all.ts", 11, true, false],
      ["./named.ts", 11, true, false],
      ["./reexported.ts", 12, false, false],
      ["./lazy.ts", 13, true, true],
      ["./template.ts", 14, true, true],
      ["./data.json", 15, true, false],
    ],
  );
});

Deno.test("parseImports is not misled by comments, strings, templates and regular expressions", () => {
  const source = [
    `// import "./line.ts";`,
    `/* import "./block.ts"; */`,
    `const text = "import './string.ts'";`,
    "const t = `import './template.ts' ${ { a: `import './nested.ts'` }.a } import './tail.ts'`;",
    `const quotes = /["'\`]/g.test(text) && /[/"]import/.test(text);`,
    `const half = 4 / 2; const other = text.length / 2; // "`,
    `export const from = import.meta.url; export default from;`,
    `export type Alias = "from" | "./alias.ts"; export function f() { return "./f.ts"; }`,
    `import { last } from "./last.ts";`,
  ].join("\n");
  assert.deepEqual(parseImports(source), [
    { specifier: "./last.ts", line: 9, runtime: true, dynamic: false },
  ]);
});

Deno.test("checkImports accepts a tree that keeps to the arrows", () => {
  assert.deepEqual(
    problems({
      "autodiff/mod.ts": `export * from "./rules/mod.ts";`,
      "autodiff/rules/mod.ts": `import { z } from "zod"; import { join } from "node:path";`,
      "autodiff/engine_test.ts": `import { load } from "../runtime/mod.ts";`,
      "runtime/mod.ts": `import * as ort from "onnxruntime-node";`,
      "rewards/mod.ts":
        `import { x } from "../models/clip/mod.ts"; import type { T } from "../autodiff/mod.ts";`,
      "services/reward/main.ts":
        `import "../rpc/mod.ts"; import "../../rewards/mod.ts"; import "./_map.ts"; import c from "../../deno.json";`,
      "tests/e2e_test.ts": `import "../services/reward/mod.ts"; import "../services/cli/mod.ts";`,
    }),
    [],
  );
});

Deno.test("checkImports names a forbidden arrow, type-only and dynamic ones too", () => {
  assert.deepEqual(
    problems({
      "autodiff/a.ts": `\nimport type { S } from "../runtime/mod.ts";`,
      "rewards/clip.ts": `const t = await import("../trainer/mod.ts");`,
      "runtime/r.ts": `export * from "../services/rpc/mod.ts";`,
      "services/cli/c.ts": `import "../reward/mod.ts";`,
      "services/rpc/c.ts": `import "../reward/mod.ts";`,
      "trainer/t_test.ts": `import "../rewards/mod.ts";`,
      "extra/e.ts": `import "../autodiff/mod.ts";`,
      "models/m.ts": `import "../../elsewhere/mod.ts";`,
    }),
    [
      "autodiff/a.ts:2: 'autodiff' may not import 'runtime'; it may import nothing local",
      "extra/e.ts:1: Folder 'extra' has no row in the import arrows",
      "models/m.ts:1: Import '../../elsewhere/mod.ts' leaves the repository",
      "rewards/clip.ts:1: 'rewards' may not import 'trainer'; it may import models, runtime, compile, autodiff, base",
      "runtime/r.ts:1: 'runtime' may not import 'services/rpc'; it may import compile, autodiff, base",
      "services/cli/c.ts:1: 'services/cli' may not import 'services/reward'; it may import services/cluster, services/launch, services/reward_client, services/rpc, rewards, trainer, runtime, models, compile, autodiff, proto, base",
      "services/rpc/c.ts:1: 'services/rpc' may not import 'services/reward'; it may import rewards, proto, base",
      "trainer/t_test.ts:1: 'trainer' may not import 'rewards'; it may import models, runtime, compile, autodiff, base, tests, tools",
    ],
  );
});

Deno.test("checkImports demands mod.ts across folders, at most one folder deep", () => {
  assert.deepEqual(
    problems({
      "models/m.ts": `import "../autodiff/tensor.ts";`,
      "tests/t.ts": `import "../models/clip/text/mod.ts"; import "../services/reward/main.ts";`,
    }),
    [
      "models/m.ts:1: Import '../autodiff/tensor.ts' must go through autodiff/mod.ts or autodiff/<folder>/mod.ts",
      "tests/t.ts:1: Import '../models/clip/text/mod.ts' must go through models/mod.ts or models/<folder>/mod.ts",
      "tests/t.ts:1: Import '../services/reward/main.ts' must go through services/reward/mod.ts or services/reward/<folder>/mod.ts",
    ],
  );
});

Deno.test("checkImports refuses remote specifiers and keeps onnxruntime-node in runtime/", () => {
  const bare = (s: string) =>
    `Import '${s}' must be a bare name pinned in the import map of deno.json`;
  assert.deepEqual(
    problems({
      "bench/b.ts":
        `import "npm:zod@4";\nimport "jsr:@std/path";\nawait import("https://a.b/c.ts");`,
      "rewards/r.ts": `import type { Tensor } from "onnxruntime-node";`,
      "tests/t.ts": `import "onnxruntime-node/dist/x.js"; import "onnxruntime-nodes";`,
    }),
    [
      `bench/b.ts:1: ${bare("npm:zod@4")}`,
      `bench/b.ts:2: ${bare("jsr:@std/path")}`,
      `bench/b.ts:3: ${bare("https://a.b/c.ts")}`,
      "rewards/r.ts:1: Only runtime/ may import 'onnxruntime-node'",
      "tests/t.ts:1: Only runtime/ may import 'onnxruntime-node'",
    ],
  );
});

Deno.test("checkImports reports circles once, those of types alone too, and ignores lazy imports", () => {
  assert.deepEqual(
    problems({
      "models/a.ts": `import { b } from "./b.ts";`,
      "models/b.ts": `import type { A } from "./a.ts";\nexport * from "./c.ts";`,
      "models/c.ts": `import { a } from "./a.ts";`,
      "models/self.ts": `import "./self.ts";`,
      "models/x.ts": `import { y } from "./y.ts";`,
      "models/y.ts": `import("./x.ts");`,
      "models/z.ts": `import type { W } from "./w.ts";`,
      "models/w.ts": `import { type Z } from "./z.ts";`,
    }),
    [
      "models/b.ts:1: Circular import: models/a.ts -> models/b.ts -> models/a.ts",
      "models/c.ts:1: Circular import: models/a.ts -> models/b.ts -> models/c.ts -> models/a.ts",
      "models/self.ts:1: Circular import: models/self.ts -> models/self.ts",
      "models/w.ts:1: Circular import: models/z.ts -> models/w.ts -> models/z.ts",
    ],
  );
});
