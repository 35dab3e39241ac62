import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/** What a service of a running stack is doing. */
export const SERVICE_STATES = [
  "starting",
  "ready",
  "unhealthy",
  "restarting",
  "stopping",
  "stopped",
] as const;

const service = z.object({
  name: z.string(),
  kind: z.enum(["reward", "trainer", "worker", "gateway"]),
  /** Where this machine reaches it: "host:port", "grpcs://host:port" with TLS. */
  address: z.string(),
  state: z.enum(SERVICE_STATES),
  /** Why, where there is something to say. */
  reason: z.string(),
  pid: z.int().optional(),
  /** When it came into its state. */
  since: z.iso.datetime(),
  restarts: z.int(),
  log: z.string(),
});

const stateSchema = z.object({
  version: z.literal(1),
  /** Name and file of the description. */
  name: z.string(),
  file: z.string(),
  /** Process that watches over the services. */
  pid: z.int(),
  startedAt: z.iso.datetime(),
  /** The file that holds what the trainer asks for. */
  trainerTokenFile: z.string().optional(),
  gatewayTokenFile: z.string().optional(),
  /** What its services' certificates are checked with, and what is shown to those that ask for one. */
  clientTls: z.object({
    ca: z.string().optional(),
    cert: z.string().optional(),
    key: z.string().optional(),
  }).optional(),
  services: z.array(service),
});

/** A service of a running stack. */
export type ServiceStatus = z.infer<typeof service>;

/** A running stack, as its supervisor last wrote it. */
export type StackState = z.infer<typeof stateSchema>;

/** The folder in which a stack remembers what is running: `stack.json`, `lock`, `logs/`. */
export class StateFolder {
  readonly path: string;
  readonly logs: string;
  #lock: Deno.FsFile | undefined;

  constructor(path: string) {
    this.path = path;
    this.logs = join(path, "logs");
  }

  /** The file of a service's log. */
  logFile(name: string): string {
    return join(this.logs, `${name}.log`);
  }

  /** Takes the stack for this process until it ends, however it ends. False where another one has it. */
  async take(): Promise<boolean> {
    await mkdir(this.logs, { recursive: true });
    const file = await Deno.open(join(this.path, "lock"), { create: true, write: true });
    // Somebody who only looks holds it for a moment.
    for (let attempt = 0; attempt < 5; attempt++) {
      if (await file.tryLock(true)) {
        this.#lock = file;
        return true;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    file.close();
    return false;
  }

  /** Gives the stack back. */
  release(): void {
    this.#lock?.close();
    this.#lock = undefined;
  }

  /** The stack that is running; undefined where none is, whatever a killed one left behind. */
  async running(): Promise<StackState | undefined> {
    let file: Deno.FsFile;
    try {
      file = await Deno.open(join(this.path, "lock"), { write: true });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
    try {
      return await file.tryLock(false) ? undefined : await this.#read();
    } finally {
      file.close();
    }
  }

  /** Writes what is running, as a whole. */
  async write(state: StackState): Promise<void> {
    const path = join(this.path, "stack.json");
    const file = await open(`${path}.new`, "w");
    try {
      await file.writeFile(`${JSON.stringify(state, undefined, 2)}\n`);
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
  }

  async #read(): Promise<StackState | undefined> {
    try {
      const text = await Deno.readTextFile(join(this.path, "stack.json"));
      return stateSchema.safeParse(JSON.parse(text)).data;
    } catch {
      // Its supervisor has begun just now.
      return undefined;
    }
  }
}
