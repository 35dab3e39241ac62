import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { steadyPort } from "../support/mod.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** Has Deno collect garbage in all threads and give memory back at SIGUSR2. */
const TRIMS = "DENO_USR2_MEMORY_TRIM";
export const ADMIN_TOKEN = "administratorOfTheSoak";

/** A stack that `drtune up` watches over, as people start it. */
export interface SoakStack extends AsyncDisposable {
  /** Process of `drtune up`; the services are below it. */
  readonly pid: number;
  /** Services by name, with process and address. */
  readonly services: ReadonlyMap<string, { readonly pid: number; readonly address: string }>;
  /** Address of the administration of the reward server "symmetry". */
  readonly admin: string;
  /** The gateway, "http://…". */
  readonly gateway: string;
}

/**
 * Starts a stack of two reward servers, "symmetry" (with administration) and "clip", a trainer and a gateway.
 *
 * @param folder an empty one
 */
export async function startStack(folder: string): Promise<SoakStack> {
  const file = join(folder, "stack.yaml");
  const tokenFile = join(folder, "admin.token");
  await Deno.writeTextFile(tokenFile, `${ADMIN_TOKEN}\n`, { mode: 0o600 });
  const adminPort = steadyPort();
  const description = {
    name: "soak",
    models: ROOT,
    rewards: [
      {
        name: "symmetry",
        port: 0,
        threads: 1,
        records: [{ kind: "symmetry" }],
        admin: { port: adminPort, tokenFile },
      },
      {
        name: "clip",
        port: 0,
        threads: 1,
        records: [{ kind: "clip", weights: "zoo/rewards/clip" }],
      },
    ],
    trainer: { port: 0, threads: 1 },
    gateway: { port: 0 },
  };
  // JSON is YAML too.
  await Deno.writeTextFile(file, JSON.stringify(description));
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--allow-all", "--no-prompt", join(ROOT, "services/cli/main.ts")],
      ...["up", "--json", "--stack", file],
    ],
    env: { NO_COLOR: "1", [TRIMS]: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const log = new Response(child.stderr).text();
  const stop = async () => {
    try {
      child.kill("SIGTERM");
    } catch {
      // It has ended by itself.
    }
    await child.status;
  };
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    const { services } = JSON.parse(text);
    const byName = new Map<string, { pid: number; address: string }>(
      services.map((s: { name: string; pid: number; address: string }) => [s.name, s]),
    );
    return {
      pid: child.pid,
      services: byName,
      admin: `127.0.0.1:${adminPort}`,
      gateway: `http://${byName.get("gateway")?.address}`,
      [Symbol.asyncDispose]: stop,
    };
  }
  throw new Error(`The stack ended before it was ready:\n${await log}`);
}
