import assert from "node:assert/strict";
import { mkdir, readdir, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Ports of the documents' stacks, and the free ones that stand for them here. */
export type Ports = ReadonlyMap<string, string>;

/** As many free ports as the documents name. */
export function freePorts(): Ports {
  const names = ["50051", "50052", "50053", "50054", "50060", "8080"];
  const listeners = names.map(() => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map(({ addr }) => String(addr.port));
  for (const listener of listeners) listener.close();
  return new Map(names.map((name, i) => [name, ports[i] ?? name]));
}

/** A text with its ports replaced. */
export function withPorts(text: string, ports: Ports): string {
  return text.replaceAll(/\b(?:5005[1-4]|50060|8080)\b/g, (port) => ports.get(port) ?? port);
}

/** A folder that looks like a clone of the project, in which commands write without touching it. */
export async function cloneInto(folder: string, owned: readonly string[] = []): Promise<void> {
  for (const name of await readdir(ROOT)) {
    if (name === "out" || name === "project" || name === "weights" || owned.includes(name)) {
      continue;
    }
    await symlink(join(ROOT, name), join(folder, name));
  }
}

/** Runs a block of commands as it is written, in one shell of a folder, and answers what it printed. Throws where one fails. */
export async function runShell(
  script: string,
  { cwd, env, path = [] }: {
    readonly cwd: string;
    readonly env: Readonly<Record<string, string>>;
    /** Folders of programs, before the system's. */
    readonly path?: readonly string[];
  },
): Promise<string> {
  await mkdir(cwd, { recursive: true });
  const folders = [dirname(Deno.execPath()), ...path, Deno.env.get("PATH") ?? ""];
  const { code, stdout } = await new Deno.Command("bash", {
    // Both in the order in which a terminal shows them.
    args: ["-euo", "pipefail", "-c", `exec 2>&1\n${script}`],
    cwd,
    env: { NO_COLOR: "1", PATH: folders.join(":"), ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).output();
  const said = new TextDecoder().decode(stdout);
  assert.equal(code, 0, `${script}\nended with ${code}:\n${said}`);
  return said;
}
