import { ENDS_WITH_STDIN } from "../../launch/mod.ts";

/** How one service is started as a local process. */
export interface ServiceSpec {
  /** Shown in messages. */
  readonly name: string;
  /** Absolute path of its entry module. */
  readonly entry: string;
  readonly args: readonly string[];
  /** Deno's permission flags for it. */
  readonly permissions: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Folder it runs in. Default: this process's. */
  readonly folder?: string;
  /** Gives up when it is not ready after this long. Default 120 s: large weights take their time. */
  readonly readyWithinMs?: number;
  /** Receives its log lines (stderr). Default: dropped, but for the last ones, which a failure shows. */
  readonly onLog?: (line: string) => void;
}

const KEPT_LINES = 20;

/** A service running as a child process of this one. */
export class ServiceProcess {
  readonly name: string;
  /** Resolves with its exit code (or signal) whenever it ends. */
  readonly ended: Promise<string>;
  readonly address: string;
  readonly #child: Deno.ChildProcess;
  #stopping = false;

  private constructor(
    name: string,
    child: Deno.ChildProcess,
    address: string,
    ended: Promise<string>,
  ) {
    this.name = name;
    this.#child = child;
    this.address = address;
    this.ended = ended;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** True once `stop` was called: an end is then no crash. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** Starts the process and waits for its ready line. Throws with its last log lines when it ends or stays silent. */
  static async start(spec: ServiceSpec, signal?: AbortSignal): Promise<ServiceProcess> {
    signal?.throwIfAborted();
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", ...spec.permissions, spec.entry, ...spec.args],
      env: { ...spec.env, [ENDS_WITH_STDIN]: "1" },
      ...(spec.folder !== undefined && { cwd: spec.folder }),
      // Held open and never written to: when this process is killed the service notices, drains and ends.
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const last: string[] = [];
    const logs = readLines(child.stderr, (line) => {
      last.push(line);
      if (last.length > KEPT_LINES) last.shift();
      spec.onLog?.(line);
    });
    const ready = Promise.withResolvers<string>();
    readLines(child.stdout, (line) => {
      const address = readyAddress(line);
      if (address !== undefined) ready.resolve(address);
    });
    const ended = child.status.then(async ({ code, signal }) => {
      await logs;
      return signal ?? `exit code ${code}`;
    });
    const failed = (why: string) =>
      new Error(`Service "${spec.name}" ${why}${last.length > 0 ? `:\n${last.join("\n")}` : ""}`);
    const limit = spec.readyWithinMs ?? 120_000;
    const timer = setTimeout(
      () => ready.reject(failed(`was not ready after ${limit / 1000} s`)),
      limit,
    );
    ended.then((how) => ready.reject(failed(`ended with ${how} before it was ready`)));
    const abort = () => ready.reject(signal?.reason);
    signal?.addEventListener("abort", abort);
    try {
      return new ServiceProcess(spec.name, child, await ready.promise, ended);
    } catch (error) {
      kill(child, "SIGKILL");
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Asks it to drain and end; kills it when it has not after `graceMs`. */
  async stop(graceMs = 10_000): Promise<void> {
    this.#stopping = true;
    kill(this.#child, "SIGTERM");
    const timer = setTimeout(() => kill(this.#child, "SIGKILL"), graceMs);
    await this.ended;
    clearTimeout(timer);
  }
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended by itself.
  }
}

async function readLines(stream: ReadableStream<Uint8Array>, onLine: (line: string) => void) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(onLine);
  }
  if (rest !== "") onLine(rest);
}

function readyAddress(line: string): string | undefined {
  try {
    const message: unknown = JSON.parse(line);
    if (typeof message === "object" && message !== null && "address" in message) {
      return typeof message.address === "string" ? message.address : undefined;
    }
  } catch {
    // Not the ready line.
  }
  return undefined;
}
