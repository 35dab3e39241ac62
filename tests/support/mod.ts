export { median, type Slope, slopeOf } from "./slope.ts";

/** Runs with an empty folder, which is removed afterwards. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "drtune-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Below the ports that systems hand out by themselves. */
const [LOWEST, HIGHEST] = [20_000, 32_767];

/** A port of 127.0.0.1 that nobody listens to, and that nobody is given who asks for any: a server may come back to it. */
export function steadyPort(): number {
  for (;;) {
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST + 1));
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}
