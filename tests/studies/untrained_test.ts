import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { main } from "../../services/cli/mod.ts";

/** Runs `drtune study` on a study's text; the folder of its results. */
async function study(folder: string, text: string): Promise<string> {
  const [file, out] = [join(folder, "study.yaml"), join(folder, "out")];
  await writeFile(file, text);
  const lines: string[] = [];
  const { log, error } = console;
  const keep = (...texts: readonly unknown[]) => void lines.push(texts.map(String).join(" "));
  [console.log, console.error] = [keep, keep];
  try {
    const code = await main(["study", file, "--out", out], new AbortController().signal);
    assert.equal(code, 0, lines.join("\n"));
  } finally {
    [console.log, console.error] = [log, error];
  }
  const page = await readFile(join(out, "index.html"), "utf8");
  assert.doesNotMatch(page, /<script|(?:src|href)="(?!data:)/);
  return out;
}

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "drtune-study-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("the gradient's norm: of one step the stop-gradient changes nothing, of more it does", async () => {
  await inFolder(async (folder) => {
    const out = await study(
      folder,
      "kind: gradient-norm\ntitle: A\nquestion: B\nmodel: pipeline\nrank: 2\nreward: { kind: symmetry }\n" +
        "sampler: { kind: ddpm, steps: 3 }\nguidance: 2\nprompts: prompts/concepts_held_out.txt\nseeds: [0]\n",
    );
    const schema = z.object({
      measured: z.array(z.object({ stops: z.boolean(), norms: z.array(z.number()).length(3) }))
        .length(2),
    });
    const text: unknown = JSON.parse(await readFile(join(out, "study.json"), "utf8"));
    const { measured: [through, stopped] } = schema.parse(text);
    const [a = NaN, b = NaN] = [through?.norms[0], stopped?.norms[0]];
    assert.ok(a > 0 && Math.abs(a - b) < 1e-5 * a, `${a}, ${b}`);
    const [c = NaN, d = NaN] = [through?.norms[2], stopped?.norms[2]];
    assert.ok(Math.abs(c - d) > 1e-3 * c, `${c}, ${d}`);
  });
});

Deno.test("composition: with everything replaced all changes, with nothing replaced nothing does", async () => {
  await inFolder(async (folder) => {
    const out = await study(
      folder,
      "kind: composition\ntitle: A\nquestion: B\nmodels: { small: pipeline }\n" +
        "reward: { kind: clip, weights: rewards/clip }\nsampler: { kind: ddpm, steps: 4 }\nguidance: 4\n" +
        "prompts: prompts/concepts_report.txt\nseeds: [0]\n",
    );
    const schema = z.object({
      points: z.array(z.object({
        what: z.string(),
        from: z.int(),
        other: z.number().optional(),
        distance: z.number(),
      })),
    });
    const text: unknown = JSON.parse(await readFile(join(out, "study.json"), "utf8"));
    const { points } = schema.parse(text);
    const at = (what: string, from: number) =>
      points.find((p) => p.what === what && p.from === from);
    assert.deepEqual(points.filter(({ what }) => what === "noise").map(({ from }) => from), [
      -1,
      0,
      1,
      2,
      3,
      4,
    ]);
    assert.ok((at("prompt", 0)?.other ?? 0) > (at("prompt", 4)?.other ?? 1));
    assert.deepEqual([at("prompt", 4)?.distance, at("noise", 4)?.distance], [0, 0]);
    assert.ok((at("noise", -1)?.distance ?? 0) > (at("noise", 2)?.distance ?? Infinity));
  });
});
