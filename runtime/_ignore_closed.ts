import { RuntimeError } from "./errors.ts";

/** Awaits the freeing of something, which an engine that ended has already done. */
export async function ignoreClosed(freed: Promise<unknown>): Promise<void> {
  try {
    await freed;
  } catch (error) {
    const ended = error instanceof RuntimeError &&
      (error.code === "closed" || error.code === "engine_crashed");
    if (!ended) throw error;
  }
}
