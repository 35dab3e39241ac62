import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { COMPOSE_VARIANTS, composeYaml } from "./compose.ts";
import { EMBEDDED_STACK, readStack } from "./read_stack.ts";

const DEPLOY = dirname(EMBEDDED_STACK);

Deno.test("The committed compose files are those of the embedded stack (deno task compose writes them)", async () => {
  const stack = await readStack(EMBEDDED_STACK);
  for (const variant of COMPOSE_VARIANTS) {
    const name = variant === "stack" ? "compose.yaml" : `compose.${variant}.yaml`;
    const text = await Deno.readTextFile(join(DEPLOY, name));
    assert.equal(text, composeYaml(stack, { folder: DEPLOY, variant }), name);
  }
});

Deno.test("Containers have the described ports, models that are only read, tokens, and find one another by name", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = join(folder, "stack.yaml");
    await Deno.writeTextFile(
      file,
      `name: mine
models: models
rewards:
  - { name: a, port: 1001, records: [{ kind: symmetry }], memory: 2g, devices: ["1"] }
  - name: b
    port: 1002
    host: 0.0.0.0
    metricsPort: 1007
    records: [{ kind: clip, weights: $clip }]
    admin: { port: 1003, tokenFile: admin.token }
    tls: { cert: b.pem, key: b.key, clientCa: ca.pem }
clientTls: { ca: ca.pem }
trainer: { port: 1004, metricsPort: 1006, tokenFile: t.token, devices: ["0"] }
gateway: { port: 1005, tokenFile: g.token, presets: presets }
`,
    );
    const stack = await readStack(file);
    const { name, services, secrets } = parse(composeYaml(stack, { folder }));
    assert.equal(name, "drtune-mine");
    const { a, b, trainer, gateway } = services;
    assert.deepEqual(a.ports, ["127.0.0.1:1001:1001"]);
    assert.equal(a.mem_limit, "2g");
    assert.deepEqual(a.volumes, ["./models:/models:ro", "cache:/cache"]);
    assert.deepEqual(b.ports, ["0.0.0.0:1002:1002"]);
    // A compose file writes a dollar twice.
    assert(b.command.includes('{"kind":"clip","weights":"$$clip"}'));
    assert.deepEqual(JSON.parse(b.command.at(-1)).admin, {
      host: "0.0.0.0",
      port: 1003,
      tokenFile: "/run/secrets/b-admin-token",
    });
    assert.equal(JSON.parse(b.command.at(-1)).metricsPort, 1007);
    assert.deepEqual(JSON.parse(b.command.at(-1)).tls, {
      cert: "/run/secrets/b-cert",
      key: "/run/secrets/b-key",
      clientCa: "/run/secrets/ca",
    });
    assert.deepEqual(b.secrets, ["b-admin-token", "b-cert", "b-key", "ca"]);
    assert.deepEqual(b.healthcheck.test.slice(3), [
      ...["grpcs://localhost:1002", "--service", "drtune.reward.v1.RewardService"],
      ...["--ca", "/run/secrets/ca"],
    ]);
    assert.equal(a.secrets, undefined);
    const option = (command: string[], name: string) => command[command.indexOf(name) + 1];
    assert.equal(option(trainer.command, "--rewards"), "a=a:1001,b=grpcs://b:1002");
    assert.equal(option(trainer.command, "--reward-ca"), "/run/secrets/ca");
    assert.equal(option(trainer.command, "--metrics-port"), "1006");
    assert.equal(option(trainer.command, "--token-file"), "/run/secrets/trainer-token");
    assert.equal(option(gateway.command, "--trainer"), "trainer:1004");
    assert.equal(option(gateway.command, "--trainer-token"), "/run/secrets/trainer-token");
    assert.equal(option(gateway.command, "--presets"), "/presets");
    assert.deepEqual(gateway.volumes, ["runs:/runs:ro", "./presets:/presets:ro"]);
    assert.equal(option(gateway.command, "--ca"), "/run/secrets/ca");
    assert.deepEqual(gateway.secrets, ["gateway-token", "trainer-token", "ca"]);
    assert.deepEqual(secrets["gateway-token"], { file: "./g.token" });
    for (const service of [a, b, trainer, gateway]) {
      assert.equal(service.user, "${DRTUNE_USER:-10001:10001}");
      assert.equal(service.restart, "unless-stopped");
      assert.equal(service.healthcheck.test[1], "drtune");
      assert.equal(service.depends_on, undefined);
    }

    const gpu = parse(composeYaml(stack, { folder, variant: "gpu" })).services;
    assert.deepEqual(gpu.a.deploy.resources.reservations.devices, [
      { driver: "nvidia", device_ids: ["1"], capabilities: ["gpu"] },
    ]);
    assert.match(gpu.a.command.at(-1), /"provider":"cuda"/);
    assert.equal(gpu.a.build.target, "nvidia");
    assert.notEqual(gpu.a.image, a.image);
    const cdi = parse(composeYaml(stack, { folder, variant: "cdi" })).services;
    assert.deepEqual(cdi.trainer.devices, ["nvidia.com/gpu=0"]);
    assert.deepEqual(cdi.b.devices, ["nvidia.com/gpu=all"]);
    assert.equal(cdi.gateway, undefined);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("NATS is a container of a profile where the cluster's servers name it, and is asked with the token", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const composed = async (servers: string) => {
      const file = join(folder, "stack.yaml");
      await Deno.writeTextFile(
        file,
        `models: models
rewards: [{ name: a, port: 1001, records: [{ kind: symmetry }] }]
cluster: { servers: [${servers}], tokenFile: nats.token, workers: [{ provider: cpu }] }
`,
      );
      return parse(composeYaml(await readStack(file), { folder }));
    };
    const { services: { nats }, volumes, secrets } = await composed("nats://nats:4222");
    assert.deepEqual([nats.profiles, nats.volumes, nats.secrets], [
      ...[["cluster"], ["nats:/data"], ["nats-token"]],
    ]);
    assert.deepEqual(nats.command, [
      "exec nats-server --jetstream --store_dir /data --port 4222" +
      ' --auth "$$(head -n 1 /run/secrets/nats-token)"',
    ]);
    assert.ok("nats" in volumes && "nats-token" in secrets);
    const gpu = parse(
      composeYaml(await readStack(join(folder, "stack.yaml")), { folder, variant: "gpu" }),
    );
    const { command: words } = gpu.services["worker-1"];
    assert.equal(words[words.indexOf("--provider") + 1], "cuda");
    const elsewhere = await composed("nats://10.0.0.1:4222");
    assert.ok(!("nats" in elsewhere.services) && !("nats" in elsewhere.volumes));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("A port is published at an address of the host, which containers know no names of", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = join(folder, "stack.yaml");
    const ports = async (host: string) => {
      const rewards = [{ name: "a", port: 1001, host, records: [{ kind: "symmetry" }] }];
      await Deno.writeTextFile(file, JSON.stringify({ models: "models", rewards }));
      return parse(composeYaml(await readStack(file), { folder })).services.a.ports;
    };
    assert.deepEqual(await ports("localhost"), ["127.0.0.1:1001:1001"]);
    assert.deepEqual(await ports("::1"), ["[::1]:1001:1001"]);
    await assert.rejects(
      ports("gpu-box"),
      /^InputError: host is "gpu-box", expected an IP address/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("What a trainer or worker converts is kept on a volume: models are only read", async () => {
  const stack = await readStack(EMBEDDED_STACK);
  const { services } = parse(composeYaml(stack, { folder: DEPLOY }));
  const { trainer } = services;
  assert.equal(trainer.working_dir, "/cache");
  assert.ok(trainer.volumes.includes("cache:/cache"));
  const flag = (name: string) =>
    trainer.entrypoint.find((word: string) => word.startsWith(`--allow-${name}=`))?.split(/[=,]/);
  assert.ok(flag("write").includes("/cache/.cache"));
  assert.ok(flag("read").includes("/cache"));
});
