import assert from "node:assert/strict";
import { join } from "node:path";
import { parse } from "yaml";
import { composeYaml } from "./compose.ts";
import { localPlace } from "./local_place.ts";
import { readStack, type Stack } from "./read_stack.ts";
import { serviceDefinitions } from "./service_definition.ts";
import { stackListeners } from "./stack_schema.ts";

async function withStack(
  rewards: string,
  work: (stack: Stack, folder: string) => void,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const file = join(folder, "stack.yaml");
    await Deno.writeTextFile(
      file,
      `models: models\nrewards:\n${rewards}\ntrainer: { port: 1004 }\ngateway: { port: 1005 }\n`,
    );
    work(await readStack(file), folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const optionOf = (args: readonly string[], name: string) => args[args.indexOf(name) + 1] ?? "";

const REPLICAS = `
  - name: a
    port: 1100
    replicas: 3
    metricsPort: 1200
    records: [{ kind: symmetry }]
  - { name: b, port: 1300, records: [{ kind: symmetry }] }
  - name: c
    port: 1400
    replicas: 2
    reproducible: false
    records: [{ kind: symmetry }]
    tls: { cert: c.pem, key: c.key }`;

Deno.test("Replicas are processes with ports one behind the other, which trainer and gateway know", () =>
  withStack(REPLICAS, (stack) => {
    const definitions = serviceDefinitions(stack, localPlace(stack));
    assert.deepEqual(definitions.map(({ name, port }) => [name, port]), [
      ...[["a-1", 1100], ["a-2", 1101], ["a-3", 1102]],
      ...[["b", 1300], ["c-1", 1400], ["c-2", 1401], ["trainer", 1004], ["gateway", 1005]],
    ]);
    const settings = definitions.slice(0, 6).map(({ args }) =>
      JSON.parse(optionOf(args, "--settings"))
    );
    assert.deepEqual(settings.map(({ metricsPort }) => metricsPort), [
      ...[1200, 1201, 1202],
      ...[undefined, undefined, undefined],
    ]);
    assert.deepEqual(settings.map(({ reproducible }) => reproducible), [
      ...[true, true, true],
      ...[undefined, undefined, undefined],
    ]);
    const expected = "a=127.0.0.1:1100,127.0.0.1:1101,127.0.0.1:1102,b=127.0.0.1:1300," +
      "c=grpcs://127.0.0.1:1400,grpcs://127.0.0.1:1401";
    for (const { args } of definitions.slice(6)) {
      assert.equal(optionOf(args, "--rewards"), expected);
    }
    const ports = stackListeners(stack).map(({ port }) => port);
    assert.equal(new Set(ports).size, 3 + 3 + 1 + 2 + 2);
  }));

Deno.test("Replicas are containers of one name, without a port of the host's", () =>
  withStack(REPLICAS, (stack, folder) => {
    const { services } = parse(composeYaml(stack, { folder }));
    assert.deepEqual(Object.keys(services).slice(0, 5), ["a", "b", "c", "trainer", "gateway"]);
    assert.deepEqual([services.a.deploy, services.a.ports], [{ replicas: 3 }, undefined]);
    assert.deepEqual([services.b.deploy, services.b.ports], [undefined, ["127.0.0.1:1300:1300"]]);
    assert.equal(
      optionOf(services.trainer.command, "--rewards"),
      "a=dns:///a:1100,b=b:1300,c=grpcs+dns:///c:1400",
    );
  }));

Deno.test("Replicas that need a name or a port of another service are told by line", async () => {
  const faulty = (rewards: string, message: RegExp) =>
    assert.rejects(withStack(rewards, () => {}), { message });
  const one = (fields: string) => `\n  - { ${fields}, records: [{ kind: symmetry }] }`;
  await faulty(
    one("name: a-2, port: 1100") + one("name: a, port: 1200, replicas: 2"),
    /stack\.yaml:\d+: rewards\.1\.name is a-2, which is the name of another reward/,
  );
  await faulty(
    one("name: a, port: 1003, replicas: 2"),
    /stack\.yaml:\d+: trainer\.port is 1004, which rewards\.0\.port has as well/,
  );
  await faulty(
    one("name: a, port: 1100, replicas: 0"),
    /rewards\.0\.replicas is 0, expected 1 or more/,
  );
});
