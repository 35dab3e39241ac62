import { join } from "node:path";
import { findClient } from "../../tools/mod.ts";

/** The program of NATS' server; undefined where there is none. */
export const NATS_SERVER = findClient("nats-server");

/** A NATS server with JetStream, to be killed and started again over the same folder and port. */
export class NatsServer {
  readonly address: string;
  readonly #folder: string;
  readonly #port: number;
  readonly #configuration: string;
  #child: Deno.ChildProcess | undefined;

  private constructor(folder: string, port: number, configuration: string) {
    this.#folder = folder;
    this.#port = port;
    this.#configuration = configuration;
    this.address = `nats://127.0.0.1:${port}`;
  }

  /**
   * Starts one on a free port.
   *
   * @param folder where it keeps what it stores
   * @param configuration more lines of its configuration file
   */
  static async start(
    folder: string,
    { configuration = "", jetstream = "" }: {
      readonly configuration?: string;
      /** More lines of the section `jetstream`. */
      readonly jetstream?: string;
    } = {},
  ): Promise<NatsServer> {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    listener.close();
    const text =
      `jetstream {\nstore_dir: ${JSON.stringify(join(folder, "store"))}\n${jetstream}\n}\n` +
      configuration;
    const server = new NatsServer(folder, port, text);
    await server.start();
    return server;
  }

  /** Starts it again after `kill`. Resolves when it listens. */
  async start(): Promise<void> {
    const file = join(this.#folder, "nats.conf");
    await Deno.writeTextFile(file, this.#configuration);
    if (NATS_SERVER === undefined) throw new Error("There is no nats-server");
    this.#child = new Deno.Command(NATS_SERVER, {
      args: ["-c", file, "-a", "127.0.0.1", "-p", String(this.#port)],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    for (let tries = 0;; tries++) {
      try {
        const connection = await Deno.connect({ hostname: "127.0.0.1", port: this.#port });
        connection.close();
        return;
      } catch (error) {
        if (tries === 200) throw error;
        await new Promise((wait) => setTimeout(wait, 50));
      }
    }
  }

  /** Kills it without a word, and waits until it is gone. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.status;
    this.#child = undefined;
  }
}
