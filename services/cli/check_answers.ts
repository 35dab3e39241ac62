import { Health } from "../../proto/mod.ts";
import { type ClientTls, grpcClient, StatusError } from "../rpc/mod.ts";
import { typed } from "./typed.ts";

/** How long a command waits for a service's first word. */
const FIRST_SECONDS = 20;

/** How a command notices that a service has fallen silent while it waits: within 30 seconds. */
export const KEEPALIVE = { seconds: 20, timeoutSeconds: 10 } as const;

/**
 * Throws an `Error` that says what to do where a service takes connections and answers nothing, as one that was
 * suspended. What else there may be against it, the command's own call finds, and says better.
 */
export async function checkAnswers(
  address: string,
  { what, tls, seconds = FIRST_SECONDS }: {
    /** Subject of the message. */
    readonly what: string;
    readonly tls: ClientTls;
    readonly seconds?: number;
  },
): Promise<void> {
  const client = grpcClient(Health, address, { tls });
  try {
    await client.check({}, { timeoutMs: 1000 * seconds });
  } catch (error) {
    if (!(error instanceof StatusError) || error.status !== "DEADLINE_EXCEEDED") return;
    throw new Error(
      `${what} at ${address} takes connections and has not answered for ${seconds} s: it may be suspended or out of ` +
        `memory. "${
          typed("status")
        }" shows what runs here; ending the process and starting it again loses nothing that ` +
        "is in a checkpoint",
      { cause: error },
    );
  } finally {
    client.close();
  }
}
