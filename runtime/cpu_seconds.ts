import process from "node:process";

/** CPU seconds (user and system, of all threads) that this process has used so far. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
