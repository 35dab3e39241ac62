import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { StartRunRequestSchema, TrainerService } from "../../proto/mod.ts";
import { readClientTls } from "../../services/launch/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const hasGrpcurl = spawnSync("grpcurl", ["-version"]).status === 0;

const TLS = fileURLToPath(new URL("../../services/rpc/testing/tls/", import.meta.url));

/**
 * The embedded stack in small: one server for both rewards' names would hide mistakes, so there are two. One of them and
 * the trainer ask their callers for certificates.
 */
const STACK = `name: test
models: ${join(ROOT, "zoo")}
rewards:
  - { name: symmetry, port: 0, records: [{ kind: symmetry }], threads: 1 }
  - { name: clip, port: 0, records: [{ kind: clip, weights: rewards/clip }], threads: 1, tls: &tls { cert: ${TLS}server.pem, key: ${TLS}server.key, clientCa: ${TLS}ca.pem } }
trainer: { port: 0, threads: 1, tokenFile: trainer.token, tls: *tls }
gateway: { port: 0, tokenFile: gateway.token }
clientTls: { ca: ${TLS}ca.pem, cert: ${TLS}client.pem, key: ${TLS}client.key }
`;

interface Status {
  readonly services: readonly {
    readonly name: string;
    readonly state: string;
    readonly address: string;
    readonly pid: number;
    readonly restarts: number;
  }[];
}

/** A stack's folder with its description, and the command line about it. */
class TestStack implements AsyncDisposable {
  readonly folder: string;
  readonly tokens = { trainer: "trainer-0123456789", gateway: "gateway-0123456789" };

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(): Promise<TestStack> {
    const stack = new TestStack(await Deno.makeTempDir());
    await Deno.writeTextFile(join(stack.folder, "stack.yaml"), STACK);
    for (const [name, token] of Object.entries(stack.tokens)) {
      await Deno.writeTextFile(join(stack.folder, `${name}.token`), `${token}\n`, { mode: 0o600 });
    }
    return stack;
  }

  async run(...words: readonly string[]) {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-prompt",
        "--no-check",
        join(ROOT, "services/cli/main.ts"),
        ...words,
      ],
      cwd: this.folder,
      env: { NO_COLOR: "1", DRTUNE_STACK: "", DRTUNE_TRAINER: "", DRTUNE_TOKEN_FILE: "" },
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.run("status", "--json")).stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run("down");
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** The run that README and docs/running.md print, with another id. */
async function documentedRun(runId: string): Promise<Record<string, JsonValue>> {
  const [readme, running] = await Promise.all(
    ["README.md", "docs/running.md"].map(async (path) => {
      const text = await Deno.readTextFile(join(ROOT, path));
      return JSON.parse(/<<'END'\n(\{[\s\S]*?\n\})\nEND/.exec(text)?.[1] ?? "");
    }),
  );
  assert.deepEqual(readme, running);
  return { ...readme, runId };
}

function alive(pid: number): boolean {
  try {
    Deno.kill(pid, "SIGCONT");
    return true;
  } catch {
    return false;
  }
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 60_000;
  while (!await condition()) {
    assert(Date.now() < end, `${what}: not within a minute`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

Deno.test("A stack is started by one command; runs are started by gRPC, HTTP and command line; killed services come back", async () => {
  await using stack = await TestStack.create();
  const up = await stack.run("up", "--detach", "--json");
  assert.equal(up.code, 0, up.stderr);
  assert.match(up.stderr, /Live page\s+http:\/\/127\.0\.0\.1:\d+/);
  const { services }: Status = JSON.parse(up.stdout);
  const addressOf = (name: string) => services.find((s) => s.name === name)?.address ?? "";
  const { trainer: token } = stack.tokens;
  const tls = await readClientTls({ ca: "ca.pem", cert: "client.pem", key: "client.key" }, TLS);
  const client = grpcClient(TrainerService, addressOf("trainer"), { tls, token, retry: {} });
  try {
    const run = await documentedRun("by-grpc");
    if (hasGrpcurl) {
      const { status, stderr } = spawnSync("grpcurl", [
        ...["-cacert", `${TLS}ca.pem`, "-cert", `${TLS}client.pem`, "-key", `${TLS}client.key`],
        ...["-H", `authorization: Bearer ${token}`, "-d", JSON.stringify(run)],
        ...[
          addressOf("trainer").replace("grpcs://", ""),
          "drtune.trainer.v1.TrainerService/StartRun",
        ],
      ]);
      assert.equal(status, 0, String(stderr));
    } else await client.startRun(fromJson(StartRunRequestSchema, run));
    // Step 0 is the samples before training.
    const steps: number[] = [];
    for await (const { event } of client.watchRun({ runId: "by-grpc" })) {
      if (event.case === "step") steps.push(event.value.step);
    }
    assert.deepEqual(steps, [0, 1, 2]);

    const headers = {
      authorization: `Bearer ${stack.tokens.gateway}`,
      "content-type": "application/json",
    };
    const runs = `http://${addressOf("gateway")}/v1/runs`;
    const body = JSON.stringify(await documentedRun("by-http"));
    const started = await fetch(runs, { method: "POST", headers, body });
    assert.equal(started.status, 201, await started.text());
    const events = await (await fetch(`${runs}/by-http/events`, { headers })).text();
    assert.equal(events.match(/^event: step$/gm)?.length, 3);

    // Found by the stack's folder: neither address nor token is given.
    const config = join(ROOT, "configs/tiny.yaml");
    const train = await stack.run("train", "--config", config, "--id", "by-cli");
    assert.equal(train.code, 0, train.stderr);
    assert.match(train.stdout, /by-cli finished/);
    // A reward says of itself which way is better; one that asks for a certificate is not asked.
    assert.match(train.stderr, /symmetry [\d.]+ \(lower is better\) {2}clip [\d.]+ {2}loss/);
    const shown = await stack.run("runs", "by-cli");
    assert.match(shown.stdout, /symmetry [\d.]+ \(lower is better\) {2}clip [\d.]+ {2}loss/);

    const long = { ...JSON.parse(body), runId: "long" };
    long.config.iterations = 500;
    await client.startRun(fromJson(StartRunRequestSchema, long));
    const swap = await stack.run("swap", "long", "--set", "clip", "--weight", "0.5", "--json");
    assert.equal(swap.code, 0, swap.stderr);
    assert.deepEqual(
      JSON.parse(swap.stdout).rewards.map((r: Record<string, unknown>) => [r["name"], r["weight"]]),
      [["symmetry", 1], ["clip", 0.5]],
    );
    // It has ended when the command has.
    const stop = await stack.run("stop", "long");
    assert.equal(stop.code, 0, stop.stderr);
    assert.match(stop.stdout, /^long {2}stopped/);

    const pid = services.find((s) => s.name === "trainer")?.pid ?? 0;
    Deno.kill(pid, "SIGKILL");
    await until("The trainer is back", async () => {
      const { services } = await stack.status();
      const { state, restarts } = services.find((s) => s.name === "trainer") ?? {};
      return state === "ready" && restarts === 1;
    });
    const { run: back } = await client.getRun({ runId: "by-cli" }, { timeoutMs: 20_000 });
    assert.equal(back?.step, 2);

    const again = await stack.run("up");
    assert.equal(again.code, 1);
    assert.match(again.stderr, /The stack is running already/);
  } finally {
    client.close();
  }
  const { services: last } = await stack.status();
  const down = await stack.run("down");
  assert.equal(down.code, 0, down.stderr);
  for (const { name, pid } of last) assert(!alive(pid), `${name} is still there`);
  assert.equal((await stack.run("status")).code, 3);
});
