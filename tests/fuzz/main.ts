/**
 * `deno task fuzz [--cases 100000] [--seed 0] [--target NAME]`: mutated messages, bodies and files, from seeds that parse,
 * over all that reads what strangers send. Each must be read or refused by a clear error within 5 seconds. Prints a line
 * for each target, and findings with the numbers that make them again; exits with 1 where there are any.
 */
import { parseArgs } from "node:util";
import { CsvPeer } from "./_csv_peer.ts";
import { fuzz, type FuzzReport } from "./fuzz.ts";
import { fuzzTargets } from "./targets.ts";

/** A case that takes longer is a finding; one that does not come back at all ends the program. */
const [BOUND_SECONDS, HANG_SECONDS] = [5, 60];

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "100000" },
    seed: { type: "string", default: "0" },
    target: { type: "string" },
  },
});
const folder = await Deno.makeTempDir({ prefix: "drtune-fuzz-" });
const csv = await CsvPeer.start();
if (csv === undefined) console.error("Without Python nobody else reads the CSV cases");
const targets = (await fuzzTargets(folder, { csv })).filter(({ name }) =>
  values.target === undefined || name === values.target
);
const count = Math.ceil(Number(values.cases) / targets.length);

// Another thread: a case that keeps this one can only be seen from there.
const watch = new Worker(
  URL.createObjectURL(
    new Blob([`
      let last = "nothing", at = Date.now();
      self.onmessage = ({ data }) => { last = data; at = Date.now(); };
      setInterval(() => {
        if (Date.now() - at < ${1000 * HANG_SECONDS}) return;
        console.error("HANG: " + last);
        Deno.exit(1);
      }, 1000);
    `]),
  ),
  { type: "module" },
);

const reports: FuzzReport[] = [];
for (const target of targets) {
  const report = await fuzz(target, {
    from: Number(values.seed),
    count,
    boundSeconds: BOUND_SECONDS,
    onCase: (seed) => {
      if (seed % 16 === 0) watch.postMessage(`${target.name}, from seed ${seed}`);
    },
  });
  reports.push(report);
  const { read, refused, seconds, findings } = report;
  console.log(
    `${target.name}: ${read} read, ${refused} refused, ${findings.length} findings, ` +
      `slowest ${(1000 * seconds).toFixed(0)} ms`,
  );
  for (const { seed, what } of findings.slice(0, 5)) console.log(`  seed ${seed}: ${what}`);
}
watch.terminate();
await csv?.[Symbol.asyncDispose]();
await Deno.remove(folder, { recursive: true });
const sum = (of: (report: FuzzReport) => number) => reports.reduce((all, one) => all + of(one), 0);
const found = sum(({ findings }) => findings.length);
console.log(
  `${count * targets.length} cases: ${sum(({ read }) => read)} read, ${
    sum(({ refused }) => refused)
  } refused, ` +
    `${found} findings`,
);
Deno.exit(found > 0 ? 1 : 0);
