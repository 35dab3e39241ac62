import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findPython } from "../../tools/mod.ts";
import { repositoryPath } from "../models/mod.ts";

/** The interpreter that has diffusers and PEFT; undefined where there is none. */
export const PYTHON = findPython();

/** Runs a program of this folder on what it is told in `spec.json`, in the folder that it writes into. */
export async function runPeer(
  program: string,
  { folder, spec }: { readonly folder: string; readonly spec: Readonly<Record<string, unknown>> },
): Promise<void> {
  const file = join(folder, "spec.json");
  await writeFile(file, JSON.stringify({ out: folder, ...spec }));
  const { success, stderr } = await new Deno.Command(PYTHON ?? "", {
    args: [repositoryPath(join("tests/interop", program)), file],
    stdout: "null",
    stderr: "piped",
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr).slice(-4000));
}
