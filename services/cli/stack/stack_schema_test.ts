import assert from "node:assert/strict";
import { join } from "node:path";
import { composeYaml } from "./compose.ts";
import { localPlace } from "./local_place.ts";
import { EMBEDDED_STACK, readStack } from "./read_stack.ts";
import { serviceDefinitions } from "./service_definition.ts";
import { stackJsonSchema } from "./stack_schema.ts";

async function faults(text: string): Promise<string[]> {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(file, text);
  try {
    const error: unknown = await readStack(file).then(() => undefined, (error) => error);
    assert(error instanceof Error && error.name === "UsageError");
    return error.message.replaceAll(`${file}:`, "").split("\n");
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("The published JSON schema is the present one (deno task stack-schema writes it)", async () => {
  const file = new URL("../../../deploy/stack.schema.json", import.meta.url);
  assert.deepEqual(JSON.parse(await Deno.readTextFile(file)), stackJsonSchema());
});

Deno.test("The embedded stack is valid, and its paths are absolute", async () => {
  const stack = await readStack(EMBEDDED_STACK);
  for (const path of [stack.models, stack.runs, stack.state]) assert.match(path, /^\/.*[^/]$/);
});

Deno.test("A faulty description names line, field, what was found and what was expected", async () => {
  const good = "models: m\nrewards:\n  - name: a\n    port: 1\n    records: [{ kind: symmetry }]\n";
  const cases: [string, readonly string[]][] = [
    ["rewards: []\n", [
      "1: models is missing, expected text",
      "1: rewards is [], expected at least 1 entries",
    ]],
    [`${good}trainer: { port: 70000 }\n`, [
      "6: trainer.port is 70000, expected 65535 or less",
    ]],
    [`${good}trainer: { port: "x", provdier: cpu }\n`, [
      '6: trainer.port is "x", expected a number',
      "6: trainer.provdier is not known here, did you mean provider?",
    ]],
    [`${good}gateway:\n  port: 1\n`, [
      "7: gateway.port is 1, which rewards.0.port has as well, expected a port of its own",
    ]],
    [`${good}trainer: { metricsPort: 1 }\n`, [
      "6: trainer.metricsPort is 1, which rewards.0.port has as well, expected a port of its own",
    ]],
    [`${good}  - { name: a, port: 2, records: [{ kind: symetry }] }\n`, [
      "6: rewards.1.name is a, which is the name of another reward",
      '6: rewards.1.records.0 is refused: Reward field "kind" is "symetry", expected one of aesthetic, clip, ',
    ]],
    [`${good}trainer:\n  provider: gpu\n`, [
      '7: trainer.provider is "gpu", expected one of cpu, ',
    ]],
    [`${good}clientTls: { cert: c.pem }\n`, [
      "6: clientTls has one of cert and key, expected both or none",
    ]],
    ["models: [\n", ["2: Flow sequence"]],
    ["12\n", ["1: file is 12, expected fields"]],
  ];
  for (const [text, expected] of cases) {
    const found = await faults(text);
    assert.equal(found.length, expected.length, found.join("\n"));
    expected.forEach((line, i) => assert(found[i]?.startsWith(line), `${found[i]}\n${line}`));
  }
});

const CLUSTER = `models: m
rewards:
  - { name: a, port: 1, records: [{ kind: symmetry }] }
cluster:
  servers: [nats://10.0.0.1:4222]
  tokenFile: nats.token
  workers: [{ threads: 2 }, { provider: cuda, devices: ["1"] }]
`;

Deno.test("A cluster's trainer and workers are told where NATS is; without one nothing is said of it", async () => {
  const folder = await Deno.makeTempDir();
  const file = join(folder, "stack.yaml");
  try {
    await Deno.writeTextFile(file, CLUSTER);
    const stack = await readStack(file);
    const definitions = serviceDefinitions(stack, localPlace(stack));
    const nats = [
      "--nats",
      "nats://10.0.0.1:4222",
      "--nats-token-file",
      join(folder, "nats.token"),
    ];
    const told = definitions.filter(({ args }) => args.join(" ").includes(nats.join(" ")));
    assert.deepEqual(told.map(({ name }) => name), ["trainer", "worker-1", "worker-2"]);
    assert.deepEqual(told[1]?.args.slice(-6), [
      ...["--provider", "cpu", "--threads", "2", "--log-level", "info"],
    ]);
    assert.equal(told[2]?.env["CUDA_VISIBLE_DEVICES"], "1");
    const yaml = composeYaml(stack, { folder });
    assert.match(
      yaml,
      /worker-2:\n(.*\n)+? +- --nats-token-file\n +- \/run\/secrets\/nats-token\n/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  const embedded = await readStack(EMBEDDED_STACK);
  const plain = serviceDefinitions(embedded, localPlace(embedded));
  assert(plain.every(({ args, kind }) => kind !== "worker" && !args.includes("--nats")));
});

Deno.test("A cluster's faults are named", async () => {
  assert.deepEqual(await faults(CLUSTER.replace("nats://10.0.0.1:4222", "10.0.0.1")), [
    '5: cluster.servers.0 is "10.0.0.1", expected text that matches ' +
    "/^(nats|tls):\\/\\/[^\\s/@]+:\\d+$/",
  ]);
  assert.deepEqual(await faults(CLUSTER.replace("name: a", "name: worker-1")), [
    "3: rewards.0.name is worker-1, which is the name of another service",
  ]);
});
