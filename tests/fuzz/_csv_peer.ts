const PROGRAM = `
import csv, io, json, sys
csv.field_size_limit(2**31 - 1)
for line in sys.stdin:
    rows = csv.reader(io.StringIO(json.loads(line), newline=""))
    print(json.dumps([row for row in rows if row not in ([], [""])]), flush=True)
`;

/** Python's csv module, which reads texts as they are given to it. */
export class CsvPeer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Starts it; `undefined` where there is no Python. */
  static async start(): Promise<CsvPeer | undefined> {
    const python = Deno.env.get("DRTUNE_PYTHON") ?? "python3";
    try {
      const options = { stdin: "piped", stdout: "piped", stderr: "inherit" } as const;
      const peer = new CsvPeer(
        new Deno.Command(python, { args: ["-c", PROGRAM], ...options }).spawn(),
      );
      await peer.rows("a");
      return peer;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** The rows of a text, but empty ones. One call at a time. */
  async rows(text: string): Promise<unknown> {
    await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(text)}\n`));
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("Python's csv ended");
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return JSON.parse(line);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#lines.cancel();
    await this.#child.status;
  }
}
