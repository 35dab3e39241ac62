import { type Load, mixedLoad } from "./_load.ts";
import { Pace } from "./_pace.ts";
import { readProcesses } from "./_processes.ts";
import { type Slope, slopeOf } from "../support/mod.ts";
import { type SoakStack, startStack } from "./_stack.ts";

/** Of one core, what all processes together use on average: others may work beside it. */
const SHARE = 0.35;
/** Between two readings of all processes, in milliseconds. */
const READ_MS = 2000;
/**
 * Between two times that processes give back what they hold no more, in milliseconds. Memory counts at the reading after:
 * V8 lets a heap grow for hours where little is asked, up to a limit of its own, which looks like a leak.
 */
const TRIM_MS = 60_000;
/** Of the time, how much passes before readings count: code is compiled, caches and heaps fill. */
const WARM_UP = 0.25;
/** So many failures end it early. */
const MOST_FAILURES = 20;

/** What grew and what failed. */
export interface SoakReport {
  /** How often each lane of the load was done. */
  readonly rounds: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
  /** Seconds of CPU of all processes together. */
  readonly cpu: number;
  /** By process: a service's name, "NAME: child" for those it starts, "drtune up" and "load" (this process). */
  readonly memory: ReadonlyMap<string, Slope>;
  readonly handles: ReadonlyMap<string, Slope>;
}

/** Puts mixed load on a stack for some hours and reads all processes meanwhile. Linux only. */
export async function soak(
  { hours, folder, signal, say }: {
    readonly hours: number;
    /** An empty folder. */
    readonly folder: string;
    /** Ends it early, and the stack. */
    readonly signal: AbortSignal;
    /** Told how it stands, at every reading. */
    readonly say: (line: string) => void;
  },
): Promise<SoakReport> {
  await using stack = await startStack(folder);
  using load = await mixedLoad(stack);
  const memory = new Map<string, [number, number][]>();
  const handles = new Map<string, [number, number][]>();
  const begun = performance.now();
  const elapsed = () => (performance.now() - begun) / 3_600_000;
  let cpu = 0;
  let now = "";
  let trimmed = -Infinity;
  let isTrimmed = false;
  const read = async () => {
    const processes = await readRoles(stack);
    cpu = processes.reduce((sum, { cpu }) => sum + cpu, 0);
    now = processes.map(({ role, resident }) => `${role} ${resident.toFixed(0)}`).join(", ");
    if (elapsed() >= WARM_UP * hours) {
      for (const { role, resident, handles: open } of processes) {
        if (isTrimmed) append(memory, role, [elapsed(), resident]);
        append(handles, role, [elapsed(), open]);
      }
    }
    isTrimmed = performance.now() - trimmed >= TRIM_MS;
    if (!isTrimmed) return;
    for (const { pid, hearsUsr2 } of processes) if (hearsUsr2) giveBack(pid);
    trimmed = performance.now();
  };
  await read();
  const cpuBefore = cpu;
  const over = new AbortController();
  signal.addEventListener("abort", () => over.abort());
  const pace = new Pace(SHARE, () => cpu);
  const { rounds, failures, ended } = drive(load, { pace, over });
  while (elapsed() < hours && !over.signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, READ_MS));
    await read();
    const done = Object.values(rounds).reduce((a, b) => a + b, 0);
    const last = failures.length > 0 ? ` (last ${failures.at(-1)})` : "";
    const left = Math.max(0, 60 * (hours - elapsed()));
    say(
      `${left.toFixed(0)} min left: ${done} rounds, ${failures.length} failed${last}, ${
        use(cpu - cpuBefore, elapsed())
      }; MiB: ${now}`,
    );
  }
  over.abort();
  await ended;
  const slopes = (
    readings: ReadonlyMap<string, readonly (readonly [number, number])[]>,
    of?: (values: readonly number[]) => number,
  ) =>
    new Map([...readings].flatMap(([role, all]) => {
      const slope = slopeOf(all, of);
      return slope === undefined ? [] : [[role, slope] as const];
    }));
  const alive = new Set((await readProcesses(stack.pid)).map(({ pid }) => pid));
  for (const [name, { pid }] of stack.services) {
    if (!alive.has(pid)) failures.push(`Process ${pid} of ${name} has ended`);
  }
  return {
    rounds,
    failures,
    cpu: cpu - cpuBefore,
    // What a process holds between two pieces of work: in the midst of one it has hundreds of MiB more, by chance.
    memory: slopes(memory, (values) => Math.min(...values)),
    handles: slopes(handles),
  };
}

function giveBack(pid: number): void {
  try {
    Deno.kill(pid, "SIGUSR2");
  } catch (error) {
    // It has ended, which is told at the end.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function use(seconds: number, hours: number): string {
  return `${(seconds / 3600 / hours).toFixed(2)} cores`;
}

/** Does every lane over and over until it is over, each beside the others. */
function drive(
  load: Load,
  { pace, over }: { readonly pace: Pace; readonly over: AbortController },
) {
  const { signal } = over;
  const rounds: Record<string, number> = {};
  const failures: string[] = [];
  const ended = Promise.all(
    Object.entries(load.lanes).map(async ([name, lane]) => {
      rounds[name] = 0;
      while (!signal.aborted) {
        try {
          await pace.turn(signal);
          await lane(signal);
          rounds[name]++;
        } catch (error) {
          // What was under way when it was over says nothing.
          if (signal.aborted) return;
          failures.push(`${name}: ${error instanceof Error ? error.message : error}`);
          if (failures.length >= MOST_FAILURES) over.abort();
        }
      }
    }),
  );
  return { rounds, failures, ended };
}

/** Readings of all processes with what each is in the stack. */
async function readRoles(stack: SoakStack) {
  const names = new Map([...stack.services].map(([name, { pid }]) => [pid, name]));
  const [own, below] = await Promise.all([readProcesses(Deno.pid), readProcesses(stack.pid)]);
  const self = own.filter(({ pid }) => pid === Deno.pid).map((reading) => ({
    ...reading,
    role: "load",
    // Its children are the stack, which is counted by itself.
    cpu: 0,
  }));
  return [
    ...self,
    ...below.map((reading) => {
      const { pid, parent } = reading;
      const child = `${names.get(parent) ?? "drtune up"}: child`;
      return { ...reading, role: pid === stack.pid ? "drtune up" : names.get(pid) ?? child };
    }),
  ];
}

function append<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key) ?? [];
  list.push(value);
  lists.set(key, list);
}
