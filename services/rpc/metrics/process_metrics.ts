import process from "node:process";
import { gauge, type MetricFamily } from "./metric_family.ts";

const STARTED = Date.now() / 1000 - process.uptime();

/** What this process takes of the machine, and the processes it has started: loaded models are those. */
export async function processMetrics(): Promise<MetricFamily[]> {
  const { user, system } = process.cpuUsage();
  const children = await childrenMemory();
  return [
    gauge("process_resident_memory_bytes", "Resident memory of the service itself.", {
      samples: [[{}, Deno.memoryUsage().rss]],
    }),
    gauge("drtune_workers_resident_memory_bytes", "Resident memory of its child processes.", {
      samples: children === undefined ? [] : [[{}, children]],
    }),
    gauge("process_cpu_seconds_total", "Time on the CPU, without child processes.", {
      type: "counter",
      samples: [[{}, (user + system) / 1e6]],
    }),
    gauge("process_start_time_seconds", "Start, in seconds since 1970.", {
      samples: [[{}, STARTED]],
    }),
  ];
}

/** Undefined where the system has no /proc. */
async function childrenMemory(): Promise<number | undefined> {
  try {
    let bytes = 0;
    for await (const { name } of Deno.readDir("/proc/self/task")) {
      const children = await Deno.readTextFile(`/proc/self/task/${name}/children`);
      for (const pid of children.trim().split(" ").filter((text) => text !== "")) {
        const status = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => "");
        bytes += 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
      }
    }
    return bytes;
  } catch {
    return undefined;
  }
}
