import { z } from "zod";

const answerSchema = z.looseObject({
  seconds: z.number().optional(),
  cpuSeconds: z.number().optional(),
  peakMb: z.number().optional(),
});

/** An answer: times of what was asked for, or the peak of resident memory. */
export type Answer = z.output<typeof answerSchema>;

/** A child process that answers each line with a line of JSON. */
export class LineProcess {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncGenerator<string>;
  #first: Answer = {};

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#lines = linesOf(child.stdout);
  }

  /** Starts it and waits for its first answer. */
  static async start(
    command: string,
    args: string[],
    env: Readonly<Record<string, string>>,
  ): Promise<LineProcess> {
    const child = new Deno.Command(command, {
      args,
      env,
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    })
      .spawn();
    const process = new LineProcess(child);
    process.#first = await process.#read();
    return process;
  }

  /** Its first answer: how long loading took. */
  get first(): Answer {
    return this.#first;
  }

  async ask(line: string): Promise<Answer> {
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
    return await this.#read();
  }

  async end(): Promise<void> {
    await this.#writer.write(new TextEncoder().encode("\n"));
    await this.#writer.close();
    await this.#child.status;
  }

  async #read(): Promise<Answer> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error("The process ended without an answer");
      if (value.startsWith("{")) return answerSchema.parse(JSON.parse(value));
    }
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
