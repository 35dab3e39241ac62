import process from "node:process";

/** Options of `GpuMemory.open`. */
export interface GpuMemoryOptions {
  /** The driver's program. Default "nvidia-smi". */
  readonly program?: string;
}

/**
 * Memory of the GPU that provider "cuda" computes on, as the NVIDIA driver counts it four times a second: all of it, and
 * the most that anyone has taken since it was opened, less what was taken then.
 */
export class GpuMemory {
  /** Bytes of the GPU. */
  readonly total: number;
  readonly #child: Deno.ChildProcess;
  readonly #before: number;
  #most: number;

  private constructor(child: Deno.ChildProcess, { total, used }: Reading) {
    this.#child = child;
    this.total = total;
    this.#before = this.#most = used;
  }

  /** Starts watching the first GPU of `CUDA_VISIBLE_DEVICES`; `undefined` where the driver's program does not answer. */
  static async open({ program = "nvidia-smi" }: GpuMemoryOptions = {}): Promise<
    GpuMemory | undefined
  > {
    const [device = "0"] = (process.env.CUDA_VISIBLE_DEVICES ?? "0").split(",");
    try {
      const child = new Deno.Command(program, {
        args: [
          `--id=${device}`,
          "--query-gpu=memory.total,memory.used",
          "--format=csv,noheader,nounits",
          "--loop-ms=250",
        ],
        stdin: "null",
        stdout: "piped",
        stderr: "null",
      }).spawn();
      const readings = readingsOf(child.stdout);
      const first = await readings.next();
      if (first.done) {
        end(child);
        return undefined;
      }
      const memory = new GpuMemory(child, first.value);
      // nvidia-smi runs as long as this process, which must not stay alive for it.
      child.unref();
      memory.#watch(readings);
      return memory;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** Bytes taken at most since it was opened, beyond what was taken then. */
  get peak(): number {
    return this.#most - this.#before;
  }

  /** Stops watching. */
  close(): void {
    end(this.#child);
  }

  async #watch(readings: AsyncGenerator<Reading>): Promise<void> {
    for await (const { used } of readings) this.#most = Math.max(this.#most, used);
  }
}

function end(child: Deno.ChildProcess): void {
  try {
    child.kill();
  } catch (error) {
    // It has ended by itself.
    if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
  }
}

interface Reading {
  readonly total: number;
  readonly used: number;
}

/** Lines such as "81559, 1024": MiB. Ends with what is no such line. */
async function* readingsOf(
  stdout: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Reading> {
  let rest = "";
  for await (const text of stdout.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [total = NaN, used = NaN] = line.split(",").map((mib) => Number(mib) * 2 ** 20);
      if (Number.isNaN(total + used)) return;
      yield { total, used };
    }
  }
}
