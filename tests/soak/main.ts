/**
 * `deno task soak --hours 2`: mixed load on a stack that `drtune up` watches over, at a third of one core: training,
 * scores by gRPC and HTTP, swaps of rewards, open pages, what must be refused. Prints how fast memory and open handles of
 * each process grow, and ends with 1 where a request failed or something grows. Linux only.
 */
import { parseArgs } from "node:util";
import { faultsOf, soak } from "./mod.ts";

const { values } = parseArgs({ options: { hours: { type: "string", default: "2" } } });
const hours = Number(values.hours);
if (!(hours > 0 && hours <= 100)) {
  console.error(`Option --hours is "${values.hours}", expected a number above 0 and at most 100`);
  Deno.exit(2);
}
/** Between two lines of progress, in milliseconds. */
const EVERY_MS = 60_000;
let said = -Infinity;
const told = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(name, () => told.abort());
}
const folder = await Deno.makeTempDir({ prefix: "drtune-soak-" });
const report = await soak({
  hours,
  folder,
  signal: told.signal,
  say(line) {
    if (performance.now() - said < EVERY_MS) return;
    said = performance.now();
    console.log(line);
  },
});
const { rounds, failures, cpu, memory, handles } = report;
if (failures.length > 0) console.log(`What the stack wrote is kept in ${folder}`);
else await Deno.remove(folder, { recursive: true });
if (told.signal.aborted) Deno.exit(130);

console.log(`${hours} h, ${cpu.toFixed(0)} s of CPU, rounds: ${JSON.stringify(rounds)}`);
for (const failure of failures) console.log(`Failed: ${failure}`);
const cell = (value: number) => `${value < 0 ? "" : "+"}${value.toFixed(2)}`;
console.log("process               | what     | usual  | an hour (95 % interval)");
for (const [what, slopes] of [["MiB", memory], ["handles", handles]] as const) {
  for (const [role, { usual, slope, low, high }] of slopes) {
    console.log(
      `${role.padEnd(21)} | ${what.padEnd(8)} | ${usual.toFixed(0).padStart(6)} | ` +
        `${cell(slope)} (${cell(low)} to ${cell(high)})`,
    );
  }
}
const faults = faultsOf(report);
for (const fault of faults) console.log(`Fault: ${fault}`);
Deno.exit(faults.length > 0 ? 1 : 0);
