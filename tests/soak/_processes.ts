import { readdir, readFile } from "node:fs/promises";
import { descendants } from "../fault/mod.ts";

/** What Linux tells of a process. */
export interface ProcessReading {
  readonly pid: number;
  readonly parent: number;
  /** Resident memory in MiB. */
  readonly resident: number;
  /** Open files, sockets and pipes. */
  readonly handles: number;
  /** Whether it listens to SIGUSR2, which would end it otherwise. */
  readonly hearsUsr2: boolean;
  /** Seconds of CPU that it used, and those of its children that have ended. */
  readonly cpu: number;
}

/** Linux counts CPU time in hundredths of a second, whatever its clock is. */
const TICKS_PER_SECOND = 100;
/** SIGUSR2 is signal 12, the first one being bit 0 of a mask. */
const USR2 = 1n << 11n;

/** Reads a process and those below it. One that ends meanwhile is left out. */
export async function readProcesses(pid: number): Promise<ProcessReading[]> {
  const pids = [pid, ...await descendants(pid)];
  return (await Promise.all(pids.map(readProcess))).flatMap((one) => one ?? []);
}

async function readProcess(pid: number): Promise<ProcessReading | undefined> {
  try {
    const [stat, status, handles] = await Promise.all([
      readFile(`/proc/${pid}/stat`, "utf8"),
      readFile(`/proc/${pid}/status`, "utf8"),
      readdir(`/proc/${pid}/fd`),
    ]);
    // "pid (name) state parent ..."; the name may hold anything. Fields by proc(5): 4 is the parent, 14 to 17 are times.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
    const resident = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]);
    // A process that has ended and waits to be asked for its exit code has no memory.
    if (Number.isNaN(resident)) return undefined;
    const caught = BigInt(`0x${/^SigCgt:\s+([0-9a-f]+)/m.exec(status)?.[1] ?? 0}`);
    const cpu = fields.slice(11, 15).reduce((a, b) => a + b, 0) / TICKS_PER_SECOND;
    return {
      pid,
      parent: fields[1] ?? NaN,
      resident: resident / 1024,
      handles: handles.length,
      hearsUsr2: (caught & USR2) !== 0n,
      cpu,
    };
  } catch {
    return undefined;
  }
}
