/**
 * `deno task test`: the one gate. Formatting, lint, types, import arrows and every test, on a fresh clone with
 * nothing but Deno. Each gate counts as one test. The last line is `N passed, N failed[, N skipped]`.
 */
import { parseTestSummary } from "./_test_summary.ts";

const ROOT = new URL("../", import.meta.url);

interface Gate {
  readonly name: string;
  readonly args: readonly string[];
}

const INSTALL: Gate = { name: "dependencies as in deno.lock", args: ["install", "--frozen"] };

const GATES: readonly Gate[] = [
  { name: "format", args: ["fmt", "--check"] },
  { name: "lint", args: ["lint"] },
  { name: "types, also in documentation examples", args: ["check", "--quiet", "--doc", "."] },
  { name: "import arrows", args: ["run", "--allow-read", "tools/check_imports.ts"] },
];

const TESTS = ["test", "--allow-all", "--no-check", "--parallel", "--doc"];

function spawn(args: readonly string[], stderr: "piped" | "inherit") {
  return new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr,
  });
}

async function show(text: Uint8Array): Promise<void> {
  for (let at = 0; at < text.length;) at += await Deno.stdout.write(text.subarray(at));
}

/** Runs a gate quietly; what it printed is shown only when it fails. */
async function pass({ name, args }: Gate): Promise<boolean> {
  const started = performance.now();
  console.log(`${name} ...`);
  const { success, stdout, stderr } = await spawn(args, "piped").output();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (!success) {
    await show(stdout);
    await show(stderr);
  }
  console.log(`${name} ... ${success ? "ok" : `FAILED (deno ${args.join(" ")})`} (${seconds} s)`);
  return success;
}

/** Runs all tests, showing their output as it comes and returning it. Ending the gate ends them. */
async function runTests(): Promise<{ success: boolean; output: string }> {
  const child = spawn(TESTS, "inherit").spawn();
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => child.kill());
  const decoder = new TextDecoder();
  let output = "";
  for await (const chunk of child.stdout) {
    await show(chunk);
    output += decoder.decode(chunk, { stream: true });
  }
  const { success } = await child.status;
  return { success, output };
}

const failedGates: string[] = [];
let passed = 0;
let failed = 0;
let skipped: readonly string[] = [];

function fail(gate: string): void {
  failed++;
  failedGates.push(gate);
}

async function count(gate: Gate): Promise<boolean> {
  const ok = await pass(gate);
  if (ok) passed++;
  else fail(gate.name);
  return ok;
}

if (await count(INSTALL)) {
  for (const gate of GATES) await count(gate);
  const { success, output } = await runTests();
  const summary = parseTestSummary(output);
  passed += summary?.passed ?? 0;
  failed += summary?.failed ?? 0;
  skipped = summary?.skipped ?? [];
  if (summary === undefined || !success && summary.failed === 0) {
    fail("deno test, which died or failed outside of any test");
  }
}

for (const name of failedGates) console.log(`Failed: ${name}`);
for (const name of skipped) console.log(`Skipped: ${name}`);
const tail = skipped.length > 0 ? `, ${skipped.length} skipped` : "";
console.log(`${passed} passed, ${failed} failed${tail}`);
if (failed > 0) Deno.exitCode = 1;
