import { posix } from "node:path";
import { checkSizes } from "./_check_sizes.ts";
import { type Arrow, IMPORT_ARROWS, ONLY_IMPORTED_BY, TESTS_MAY_IMPORT } from "./_import_arrows.ts";
import { type ImportStatement, parseImports } from "./_parse_imports.ts";

/** A broken rule and where it stands. */
export interface ImportProblem {
  /** Path relative to the repository, with forward slashes. */
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  readonly message: string;
}

/**
 * Checks a source tree, given as text by relative path, against the import arrows: who may import whom, entry
 * through `mod.ts`, packages by bare name only, packages with one importer, and no circular imports.
 */
export function checkImports(files: ReadonlyMap<string, string>): ImportProblem[] {
  const importsOf = new Map([...files].map(([file, source]) => [file, parseImports(source)]));
  const problems: ImportProblem[] = [];
  for (const [file, imports] of importsOf) {
    for (const statement of imports) {
      const message = problemOf(file, statement.specifier);
      if (message !== undefined) problems.push({ file, line: statement.line, message });
    }
  }
  problems.push(...circularImports(importsOf));
  return problems.sort((a, b) => a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line);
}

function problemOf(file: string, specifier: string): string | undefined {
  if (specifier.startsWith(".")) return problemOfLocal(file, specifier);
  if (specifier.startsWith("node:")) return undefined;
  if (/^(?:[a-z]+:|\/)/.test(specifier)) {
    return `Import '${specifier}' must be a bare name pinned in the import map of deno.json`;
  }
  for (const [name, folder] of Object.entries(ONLY_IMPORTED_BY)) {
    const matches = specifier === name || specifier.startsWith(`${name}/`);
    if (matches && unitOf(file) !== folder) return `Only ${folder}/ may import '${name}'`;
  }
  return undefined;
}

function problemOfLocal(file: string, specifier: string): string | undefined {
  const target = resolve(file, specifier);
  const [from, to] = [unitOf(file), unitOf(target)];
  if (from === to || target === "deno.json") return undefined;
  if (to.startsWith("..")) return `Import '${specifier}' leaves the repository`;
  const arrow: Arrow | undefined = IMPORT_ARROWS[from] ?? IMPORT_ARROWS[topOf(file)];
  if (arrow === undefined) return `Folder '${topOf(file)}' has no row in the import arrows`;
  if (arrow !== "*") {
    const allowed = [
      ...new Set(file.endsWith("_test.ts") ? [...arrow, ...TESTS_MAY_IMPORT] : arrow),
    ];
    if (!allowed.includes(to)) {
      return `'${from}' may not import '${to}'; it may import ${
        allowed.join(", ") || "nothing local"
      }`;
    }
  }
  const inside = target.slice(to.length + 1).split("/");
  if (inside.length > 2 || inside.at(-1) !== "mod.ts") {
    return `Import '${specifier}' must go through ${to}/mod.ts or ${to}/<folder>/mod.ts`;
  }
  return undefined;
}

/** One problem for each import that closes a circle; imports of types alone count, those made while running do not. */
function circularImports(
  importsOf: ReadonlyMap<string, readonly ImportStatement[]>,
): ImportProblem[] {
  const problems: ImportProblem[] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string) => {
    path.push(file);
    for (const { specifier, line, dynamic } of importsOf.get(file) ?? []) {
      if (dynamic || !specifier.startsWith(".")) continue;
      const target = resolve(file, specifier);
      const start = path.indexOf(target);
      if (start >= 0) {
        const circle = [...path.slice(start), target].join(" -> ");
        problems.push({ file, line, message: `Circular import: ${circle}` });
      } else if (!done.has(target)) visit(target);
    }
    path.pop();
    done.add(file);
  };
  for (const file of importsOf.keys()) if (!done.has(file)) visit(file);
  return problems;
}

function resolve(file: string, specifier: string): string {
  return posix.join(posix.dirname(file), specifier);
}

function topOf(file: string): string {
  return file.split("/", 1).join();
}

/** The part of the tree that rules apply to: a top folder, or a folder of services/. */
function unitOf(file: string): string {
  const parts = file.split("/");
  return parts.slice(0, parts[0] === "services" && parts.length > 2 ? 2 : 1).join("/");
}

/** Reads every source file of the repository, skipping dependencies and hidden folders. */
async function readSources(root: URL): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const visit = async (folder: string) => {
    for await (const entry of Deno.readDir(new URL(folder, root))) {
      const path = folder + entry.name;
      if (entry.name.startsWith(".") || entry.name === "node_modules") continue;
      if (entry.isDirectory) await visit(`${path}/`);
      else if (/\.(?:m?[jt]s|[jt]sx)$/.test(entry.name)) {
        files.set(path, await Deno.readTextFile(new URL(path, root)));
      }
    }
  };
  await visit("");
  return files;
}

if (import.meta.main) {
  const files = await readSources(new URL("../", import.meta.url));
  const problems = [...checkImports(files), ...checkSizes(files)];
  for (const { file, line, message } of problems) console.error(`${file}:${line}: ${message}`);
  console.log(`${files.size} files, ${problems.length} problems of imports and sizes`);
  if (problems.length > 0) Deno.exitCode = 1;
}
