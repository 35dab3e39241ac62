import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { parse } from "yaml";
import { RunConfigSchema } from "../../proto/mod.ts";
import { FieldError, parseRunConfig } from "../../trainer/mod.ts";
import { fillInEndpoints } from "./fill_in_endpoints.ts";
import { fromWireConfig } from "./wire_config.ts";

const path = (relative: string) => new URL(`../../${relative}`, import.meta.url).pathname;

/** A configuration file as the trainer service takes it. */
async function read(name: string, root: string) {
  const value: JsonValue = parse(await Deno.readTextFile(path(`configs/${name}`)));
  const config = fromJson(RunConfigSchema, value);
  const terms = [...config.rewards, ...config.panel?.rewards ?? []];
  const addresses = new Map(terms.map(({ name }) => [name, "127.0.0.1:1"]));
  fillInEndpoints(terms, { addresses, field: "rewards" });
  return parseRunConfig(await fromWireConfig(config, root));
}

Deno.test("every configuration file is one, and the paper's say what the paper says", async () => {
  const root = await mkdtemp(join(tmpdir(), "drtune-presets-"));
  try {
    await cp(path("zoo/prompts"), join(root, "prompts"), { recursive: true });
    for (const name of ["hpsv2_train", "hpsv2_benchmark"]) {
      await writeFile(join(root, "prompts", `${name}.txt`), "a castle\n");
    }
    let count = 0;
    for await (const { name } of Deno.readDir(path("configs"))) {
      if (!name.endsWith(".yaml")) continue;
      const value: unknown = parse(await Deno.readTextFile(path(`configs/${name}`)));
      // Other files in the folder describe services.
      if (typeof value !== "object" || value === null || !("model" in value)) continue;
      await read(name, root);
      count++;
    }
    assert.ok(count >= 6, `${count} configurations`);
    const sd = await read("paper_sd15.yaml", root);
    assert.deepEqual(sd.method, {
      name: "drtune",
      k: 5,
      m: 20,
      inputStopGradient: true,
      earlyStop: true,
    });
    assert.deepEqual(sd.sampler, { kind: "ddpm", steps: 50, eta: 0 });
    assert.equal(sd.batch.size * sd.batch.accumulation, 32);
    assert.deepEqual([sd.optimizer.learningRate, sd.lora.rank], [2e-5, 128]);
    const xl = await read("paper_sdxl.yaml", root);
    assert.deepEqual([xl.sampler.kind, xl.sampler.steps, xl.method.k], ["dpmsolver++", 25, 3]);
    assert.equal(xl.batch.size * xl.batch.accumulation, 64);
    assert.deepEqual([xl.randomShift, xl.lora.sampleScale, xl.guidance.scale], [5, 0.7, 5]);
    await assert.rejects(
      read("paper_sd15.yaml", path("zoo")),
      (e) =>
        e instanceof FieldError &&
        /\.file is "prompts\/hpsv2_benchmark\.txt"/.test(e.message),
    );
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
