import { fileURLToPath } from "node:url";

/** Longest a service may take until it serves. */
const READY_MS = 60_000;

/** A service of the project in a process of its own, from when it serves until it is disposed of. */
export class Service implements AsyncDisposable {
  /** "host:port". */
  readonly address: string;
  /** The same of its metrics, where they were asked for. */
  readonly metricsAddress: string | undefined;
  /** The same of a reward service's administration, where it has one. */
  readonly adminAddress: string | undefined;
  readonly #process: Deno.ChildProcess;

  private constructor(
    process: Deno.ChildProcess,
    { address, metricsAddress, adminAddress }: {
      readonly address: string;
      readonly metricsAddress?: string;
      readonly adminAddress?: string;
    },
  ) {
    this.#process = process;
    this.address = address;
    this.metricsAddress = metricsAddress;
    this.adminAddress = adminAddress;
  }

  /**
   * Starts services/NAME/main.ts on a free port. Throws with what it wrote to stderr where it does not come to serve.
   *
   * @param env added to this process's environment
   */
  static async start(
    name: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Service> {
    const entry = fileURLToPath(new URL(`../../services/${name}/main.ts`, import.meta.url));
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--no-prompt", "--no-check", entry, "--port", "0", ...args],
      env: { NO_COLOR: "1", ...env },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const log = new Response(process.stderr).text();
    const timer = setTimeout(() => process.kill("SIGKILL"), READY_MS);
    for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
      clearTimeout(timer);
      return new Service(process, JSON.parse(text));
    }
    clearTimeout(timer);
    throw new Error(`Service ${name} ended before it was ready:\n${await log}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#process.status;
  }
}
