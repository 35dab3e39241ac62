import type { EXPORTERS } from "./zoo_result.ts";

const PROGRAM = new URL("../../tests/autodiff/zoo_exports.py", import.meta.url).pathname;

/**
 * A Python process that exports what it is told, a line of its input at a time. Where it dies (out of memory, a fault of
 * an exporter) that export is given up and the next one gets a new process.
 */
export class ExportPeer {
  readonly #python: string;
  readonly #folder: string;
  #running: Running | undefined;

  constructor(python: string, folder: string) {
    this.#python = python;
    this.#folder = folder;
  }

  /** Names of the architectures that match. */
  static async list(python: string, only: string): Promise<string[]> {
    const { code, stdout } = await new Deno.Command(python, {
      args: [PROGRAM, "--list", "--only", only],
      stderr: "inherit",
    }).output();
    if (code !== 0) throw new Error(`${PROGRAM} ended with ${code}`);
    return new TextDecoder().decode(stdout).split("\n").filter((name) => name !== "");
  }

  /**
   * Leaves FOLDER/NAME.EXPORTER.onnx and FOLDER/NAME.safetensors, or of "neighbours" FOLDER/NAME.neighbours.safetensors;
   * gives why where it does not.
   */
  async make(
    name: string,
    exporter: typeof EXPORTERS[number] | "neighbours",
  ): Promise<string | undefined> {
    this.#running ??= start(this.#python, this.#folder);
    const { input, answers } = this.#running;
    await input.write(new TextEncoder().encode(`${name} ${exporter}\n`));
    const { value, done } = await answers.next();
    if (done === true) {
      await this.end();
      return "Python died";
    }
    return value === "made" ? undefined : value;
  }

  async end(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.input.close().catch(() => {});
    await running?.process.status;
  }
}

interface Running {
  readonly process: Deno.ChildProcess;
  readonly input: WritableStreamDefaultWriter<Uint8Array>;
  readonly answers: AsyncGenerator<string, undefined>;
}

function start(python: string, folder: string): Running {
  const process = new Deno.Command(python, {
    args: ["-u", PROGRAM, folder],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  return { process, input: process.stdin.getWriter(), answers: answersOf(process.stdout) };
}

/** Lines that begin with "> ", without that: libraries write others. */
async function* answersOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<string, undefined> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("> ")) yield line.slice(2);
  }
}
