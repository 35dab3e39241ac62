import { fileURLToPath } from "node:url";
import { ENDS_WITH_STDIN } from "../../services/launch/mod.ts";

/** How many lines of its log a failure shows. */
const KEPT_LINES = 20;

interface Addresses {
  readonly address: string;
  readonly adminAddress?: string;
  readonly metricsAddress?: string;
}

/** A service in a process of its own, started as people start it, to be killed. */
export class Victim {
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  /** What it prints when it serves: its addresses. Rejects with its last log lines when it ends before. */
  readonly ready: Promise<Addresses>;
  readonly #child: Deno.ChildProcess;
  /** The last lines of its log. */
  readonly lastLines: readonly string[];

  /**
   * @param entry module to run, relative to the repository
   * @param within words before the command, as of a program that runs it
   * @param env beside this process's own
   */
  constructor(
    entry: string,
    args: readonly string[],
    { within = [], env = {} }: {
      readonly within?: readonly string[];
      readonly env?: Readonly<Record<string, string>>;
    } = {},
  ) {
    const root = fileURLToPath(new URL("../../", import.meta.url));
    const [program = "", ...words] = [
      ...within,
      ...[Deno.execPath(), "run", "-A", "--quiet", "--no-prompt", entry, ...args],
    ];
    this.#child = new Deno.Command(program, {
      args: words,
      cwd: root,
      env: { NO_COLOR: "1", [ENDS_WITH_STDIN]: "1", ...env },
      // Held open: a victim ends with the test, however that ends.
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const last: string[] = [];
    this.lastLines = last;
    const logged = eachLine(this.#child.stderr, (line) => {
      last.push(line);
      if (last.length > KEPT_LINES) last.shift();
    });
    const { promise, resolve, reject } = Promise.withResolvers<Addresses>();
    const printed = eachLine(this.#child.stdout, (line) => resolve(JSON.parse(line)));
    this.ended = Promise.all([this.#child.status, logged, printed]).then(([{ code, signal }]) =>
      reject(new Error([`${entry} ended with ${signal ?? code}`, ...last].join("\n  ")))
    );
    // Whoever kills it before does not ask.
    promise.catch(() => {});
    this.ready = promise;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Sends it a signal. */
  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Ends it with a signal, by default kill -9, and waits until it has. */
  async end(signal: Deno.Signal = "SIGKILL"): Promise<void> {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended by itself.
    }
    await this.ended;
  }
}

async function eachLine(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  take: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(take);
  }
}
