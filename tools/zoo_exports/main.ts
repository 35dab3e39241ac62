/**
 * `deno task zoo-exports [--exporter torchscript|dynamo|both] [--only REGEX] [--keep FOLDER] [--again] [--record]`:
 * architectures that PyTorch exports with random weights (tests/autodiff/zoo_exports.py), imported and differentiated
 * here, compared with its values and gradients in float64. `--keep` leaves files and results in FOLDER, where the next
 * call goes on; `--again` compares its files anew. `--record` writes what FOLDER has into docs/zoo_exports.json, which
 * `deno task onnx-table` shows. Needs Python with torch, torchvision, timm, transformers, diffusers and onnxscript.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openEngine } from "../../runtime/mod.ts";
import { Progress } from "../../services/cli/mod.ts";
import { pythonPath } from "../python_env.ts";
import { compareExport } from "./_compare_export.ts";
import { ExportPeer } from "./_export_peer.ts";
import { EXPORTERS, ExportResult, RESULTS_FILE, ZooResults } from "./zoo_result.ts";

const { values: args } = parseArgs({
  options: {
    exporter: { type: "string", default: "both" },
    only: { type: "string", default: "" },
    keep: { type: "string" },
    again: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
  },
});
const exporters = EXPORTERS.filter((name) => args.exporter === "both" || name === args.exporter);
if (exporters.length === 0) {
  throw new Error(`--exporter is "${args.exporter}", expected ${EXPORTERS.join(", ")} or both`);
}
const folder = args.keep ?? await Deno.makeTempDir({ prefix: "drtune-zoo-exports-" });
await Deno.mkdir(folder, { recursive: true });
const python = await pythonPath();
const names = await ExportPeer.list(python, args.only);
const all = names.flatMap((name) => exporters.map((exporter) => ({ name, exporter })));
const fileOf = (name: string, exporter: string, end: string) =>
  join(folder, `${name}.${exporter}.${end}`);
const results: ZooResults = {};
const left = all.filter(({ name, exporter }) => {
  const file = fileOf(name, exporter, "json");
  if (args.again || !existsSync(file)) return true;
  (results[name] ??= {})[exporter] = ExportResult.parse(JSON.parse(Deno.readTextFileSync(file)));
  return false;
});
const progress = new Progress();
const engine = await openEngine({ isolation: "in-process" });
const peer = new ExportPeer(python, folder);
try {
  for (const [i, { name, exporter }] of left.entries()) {
    progress.update({ done: i, total: left.length, note: `${name} by ${exporter}` });
    const failure = await peer.make(name, exporter);
    const result: ExportResult = failure === undefined
      ? await compareExport(engine, {
        modelPath: fileOf(name, exporter, "onnx"),
        factsPath: join(folder, `${name}.safetensors`),
        neighbours: async () =>
          await peer.make(name, "neighbours") === undefined
            ? join(folder, `${name}.neighbours.safetensors`)
            : undefined,
      })
      : { outcome: "unmade", why: failure };
    (results[name] ??= {})[exporter] = result;
    await Deno.writeTextFile(fileOf(name, exporter, "json"), JSON.stringify(result));
    progress.say(`${name} ${exporter} ${line(result)}`);
    if (args.keep === undefined) await Deno.remove(fileOf(name, exporter, "onnx")).catch(() => {});
  }
  progress.update({ done: left.length, total: left.length });
} finally {
  await peer.end();
  await engine.close();
  if (args.keep === undefined) await Deno.remove(folder, { recursive: true });
}
const count = { right: 0, off: 0, refused: 0, broken: 0, unmade: 0 };
for (const { name, exporter } of all) {
  const outcome = results[name]?.[exporter]?.outcome;
  if (outcome !== undefined) count[outcome]++;
}
const { right, off, refused, broken, unmade } = count;
console.log(
  `${right + off} load, ${right} are right, ${off} are off, ${refused} are refused; ` +
    `${broken} no runtime takes, ${unmade} PyTorch does not export`,
);
if (args.record) {
  const kept = ZooResults.parse(
    existsSync(RESULTS_FILE) ? JSON.parse(await Deno.readTextFile(RESULTS_FILE)) : {},
  );
  for (const [name, of] of Object.entries(results)) kept[name] = { ...kept[name], ...of };
  const sorted = Object.fromEntries(Object.entries(kept).sort(([a], [b]) => a < b ? -1 : 1));
  await Deno.writeTextFile(RESULTS_FILE, `${JSON.stringify(sorted, undefined, 1)}\n`);
}
Deno.exit(off + refused === 0 ? 0 : 1);

function line(result: ExportResult): string {
  if ("why" in result) return `${result.outcome}: ${result.why}`;
  const { outcome, value, gradient, float32, byDifferences = false, moves } = result;
  const [v, g, f] = [value, gradient, float32].map((x) => x.toExponential(1));
  return `${outcome}  value ${v}  gradient ${g}${byDifferences ? " (by differences)" : ""}  ` +
    `PyTorch in float32 ${f}` +
    (moves === undefined ? "" : `  moves ${moves.toExponential(1)}`);
}
