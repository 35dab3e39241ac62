import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { residentBytes } from "./_resident.ts";

const MAIN = fileURLToPath(new URL("../../services/gateway/main.ts", import.meta.url));

const many = <T>(count: number, element: (i: number) => T) =>
  Array.from({ length: count }, (_, i) => element(i));

/** Lines that the gateway takes as one text, just. */
function fill(start: string, line: (i: number) => string): string {
  let text = start;
  for (let i = 0; text.length + line(i).length <= 64_000; i++) text += line(i);
  return text;
}

const LIST = fill("model: a\nprompts:\n  list:\n    prompts:\n", (i) => `      - fox ${i}\n`);
const MAP = fill("model: a\nlora:\n  rankPattern:\n", (i) => `    k${i}: 1\n`);
const FEW = "model: a\n";
const PROMPTS = ["prompts", "list", "prompts"];
const PATTERN = ["lora", "rankPattern"];

type Change = readonly [path: readonly (string | number)[], value: unknown];

/** Texts and changes, and how they are answered: what is in the text, or why it is refused. */
const CASES: Readonly<
  Record<string, readonly [string, readonly Change[], 200 | 400 | 413, RegExp]>
> = {
  "a full list": [LIST, [], 200, /- fox 3000\n/],
  "a full map": [MAP, [], 200, /k5000: 1\n/],
  "600 changes of a full list": [LIST, many(600, (i) => [[...PROMPTS, i], "x"]), 200, /- x\n/],
  "600 changes of a full map": [
    MAP,
    many(600, (i) => [[...PATTERN, `k${4000 + i}`], 2]),
    200,
    /k4599: 2\n/,
  ],
  "600 fields beside a full map": [
    MAP,
    many(600, (i) => [[...PATTERN, `new${i}`], 2]),
    400,
    /^Field changes makes a text of \d+ characters, expected at most 65536$/,
  ],
  "600 elements taken away": [LIST, many(600, () => [[...PROMPTS, 0], null]), 200, /- fox 600\n/],
  "a path 900 deep": [
    FEW,
    [[many(900, () => "a"), 1]],
    400,
    /^Field changes\.0\.path is .*, expected at most 20 entries$/,
  ],
  "a path 900 deep, 600 times": [
    FEW,
    many(600, () => [many(900, () => "a"), 1]),
    413,
    /^Body is larger than 262144 bytes$/,
  ],
  "a path 400 deep, 150 times": [
    FEW,
    many(150, () => [many(400, () => "a"), 1]),
    400,
    /^Field changes\.0\.path is .*, expected at most 20 entries$/,
  ],
  "a value of 200,000 strings": [
    FEW,
    [[PROMPTS, many(200_000, () => "a")]],
    413,
    /^Body is larger than 262144 bytes$/,
  ],
  "a value of 60,000 strings": [
    FEW,
    [[PROMPTS, many(60_000, () => "a")]],
    400,
    /^Field changes makes a text of 600\d+ characters/,
  ],
  "an index beyond its list": [
    LIST,
    [[[...PROMPTS, 4_000_000_000], "x"]],
    400,
    /: Index 4000000000 of a list of \d+, expected at most \d+$/,
  ],
  "an index of a list that is not there": [
    FEW,
    [[["rewards", 4_000_000_000, "name"], "x"]],
    400,
    /: Index 4000000000 of a list of 0, expected at most 0$/,
  ],
  "__proto__ in a path": [
    FEW,
    [[["__proto__", "status"], 1]],
    400,
    /^Field __proto__ is not known here$/,
  ],
  "__proto__ in a map": [FEW, [[[...PATTERN, "__proto__"], 1]], 200, /__proto__: 1\n/],
  "one line": [`model: ${"x".repeat(60_000)}\n`, [[["seed"], 1]], 200, /x\nseed: 1\n$/],
  "one line of words": [`model: ${"x ".repeat(30_000)}\n`, [[["seed"], 1]], 200, /x\nseed: 1\n$/],
  "one line of elements": [
    `prompts: { list: { prompts: [${"a, ".repeat(9_900)}] } }`,
    [[["seed"], 1]],
    200,
    /\nseed: 1\n$/,
  ],
  "one line of commas": [`a: [${",".repeat(9_900)}]`, [], 400, /^Line 1: Unexpected ,/],
  "brackets alone": ["}".repeat(60_000), [], 400, /^Body has 60000 line ends, commas and brackets/],
  "escapes that are none": [
    `"${"\\q".repeat(20_000)}"`,
    [],
    400,
    /^Line 1: Invalid escape sequence/,
  ],
  "one line of anchors": ["&a ".repeat(21_000), [], 400, /^Line 1: .* at most one anchor$/],
  "anchors and their aliases": [
    fill("a: &all [", (i) => `&a${i} 1,*a${i},`) + "]\nb: *all\n",
    [],
    400,
    /^Line 1: More than 100 aliases$/,
  ],
  "aliases that stand for a billion": [
    `a: &a [x]\n${
      many(9, (i) => `b${i}: &b${i} [${many(9, () => i ? `*b${i - 1}` : "*a")}]\n`).join("")
    }`,
    [],
    400,
    /^Body cannot be read: Excessive alias count/,
  ],
  "an alias of what is around it": ["lora: &a\n  b: *a\n", [], 400, /^Body has more than 2000/],
  "copies of what is large": [
    `rewards:\n  - &r\n    name: ${"x".repeat(20_000)}\n${"  - *r\n".repeat(5)}`,
    many(5, (i) => [["rewards", 1 + i, "weight"], i]),
    400,
    /: Copies of what aliases stand for have more than 65536 characters$/,
  ],
  "400 rewards with a field that is not known": [
    FEW,
    [[["rewards"], many(400, () => ({ x: 1 }))]],
    400,
    /^Field rewards\.0\.x is not known here$/,
  ],
  "keys that stand twice": ["seed: 1\n".repeat(7000), [], 400, /^Line 2: Map keys must be unique$/],
};

Deno.test({
  name: "No edit of a configuration keeps the gateway from answering others, or takes its memory",
  ignore: Deno.build.os !== "linux",
}, async (t) => {
  const command = `ulimit -v 60000000; exec "$0" run -A --quiet "$@"`;
  const server = new Deno.Command("sh", {
    args: ["-c", command, Deno.execPath(), MAIN, "--trainer", "127.0.0.1:9", "--port", "0"],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  try {
    const { value } = await server.stdout.getReader().read();
    const { address } = JSON.parse(new TextDecoder().decode(value));
    const edit = async (yaml: string, changes: readonly Change[]) => {
      const response = await fetch(`http://${address}/v1/configs/edit`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ yaml, changes: changes.map(([path, value]) => ({ path, value })) }),
        signal: AbortSignal.timeout(60_000),
      });
      return { status: response.status, answer: await response.json() };
    };
    // Starts the thread that edits.
    await edit(`model: ${"x".repeat(10_000)}\n`, []);
    await edit("model: a\n", [[["seed"], 1]]);
    const before = await residentBytes(server.pid);
    for (const [name, [yaml, changes, status, said]] of Object.entries(CASES)) {
      await t.step(name, async () => {
        const [main, all] = [await cpuSeconds(server.pid, "main"), await cpuSeconds(server.pid)];
        const editing = edit(yaml, changes);
        const health = await fetch(`http://${address}/healthz`);
        assert.deepEqual(await health.json(), { status: "ok" });
        const { answer, ...found } = await editing;
        const text = found.status === 200 ? answer.yaml : answer.error.message;
        assert.deepEqual([found.status, text.slice(0, 200)], [status, text.slice(0, 200)]);
        assert.match(text, said);
        // Seconds of the processor, so that a busy machine changes nothing: health waits for the answering thread, the
        // edit for all of them.
        const waited = await cpuSeconds(server.pid, "main") - main;
        assert.ok(waited <= 0.1, `The answering thread took ${waited} s`);
        const took = await cpuSeconds(server.pid) - all;
        assert.ok(took <= 2, `The edit took ${took} s`);
        const megabytes = (await residentBytes(server.pid) - before) / 1e6;
        assert.ok(megabytes < 100, `${megabytes} MB more are held`);
      });
    }
  } finally {
    server.kill("SIGTERM");
    await server.status;
  }
});

/** Seconds of the processor that a process took, or its main thread. */
async function cpuSeconds(pid: number, of?: "main"): Promise<number> {
  const path = of === "main" ? `/proc/${pid}/task/${pid}/stat` : `/proc/${pid}/stat`;
  const fields = (await Deno.readTextFile(path)).split(") ")[1]?.split(" ") ?? [];
  // Ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
