import { readFile } from "node:fs/promises";

/**
 * How many threads want a processor of this machine, now and on the mean of the last minute: the smaller of both, so that
 * neither a moment nor what is over counts. Undefined where the system does not say; Linux does.
 */
export async function machineLoad(): Promise<number | undefined> {
  return loadOf(await readFile("/proc/loadavg", "utf8").catch(() => ""));
}

/** The same of the text of /proc/loadavg. */
export function loadOf(text: string): number | undefined {
  const [, minute, running] = /^([\d.]+) \S+ \S+ (\d+)\//.exec(text) ?? [];
  // One of them is who asks.
  return minute === undefined ? undefined : Math.min(Number(minute), Number(running) - 1);
}
