import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cp, mkdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import sharp from "sharp";
import {
  type EvaluateRunRequestSchema,
  LoraFormat,
  LoraPrecision,
  type RunConfigSchema,
  RunState,
  type SampleRequestSchema,
  TrainerService,
  type WatchRunResponse,
} from "../../proto/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import {
  DISCRETE_SAMPLER_KINDS,
  openRunModel,
  prepareRunConfig,
  RewardRefusedError,
  RewardUnavailableError,
  type RunDependencies,
  RunStore,
} from "../../trainer/mod.ts";
import { fakeModel, FakeReward } from "../../trainer/testing/mod.ts";
import { createLogger } from "../../base/mod.ts";
import {
  type GrpcClient,
  grpcClient,
  startGrpcServer,
  StatusError,
  type StatusName,
} from "../rpc/mod.ts";
import { healthStatus } from "../rpc/testing/mod.ts";
import { checkRewards } from "../reward_client/mod.ts";
import { trainerErrors } from "./trainer_errors.ts";
import { trainerService } from "./trainer_service.ts";

type Client = GrpcClient<typeof TrainerService>;
/** What a message is made of. */
type Fields<S extends DescMessage> = Exclude<MessageInitShape<S>, { readonly $typeName: string }>;
type Config = Fields<typeof RunConfigSchema>;

const GOLDEN = fileURLToPath(new URL("../../tests/golden", import.meta.url));

const list = (...prompts: string[]) => ({ source: { case: "list" as const, value: { prompts } } });
const file = (path: string) => ({ source: { case: "file" as const, value: path } });

/** Of the fake model, and small enough for the real one in tests/golden. */
const CONFIG: Config = {
  model: "tiny-sd",
  sampler: { steps: 3 },
  method: { k: 1, m: 2 },
  lora: { rank: 2 },
  optimizer: { learningRate: 0.05 },
  prompts: list("a red cat", "books"),
  heldOutPrompts: list("a dog"),
  rewards: [{ name: "dark", endpoint: "dark" }],
  latentHeight: 8,
  latentWidth: 8,
  iterations: 3,
  checkpointEvery: 2,
  sampleEvery: 0,
};

/** Of a reward that never answers. */
const silence = {
  asked: Promise.withResolvers<void>(),
  left: Promise.withResolvers<boolean>(),
};

interface World {
  readonly client: Client;
  readonly address: string;
  /** Holds the runs, and models and prompt files. */
  readonly root: string;
  readonly reward: FakeReward;
}

/** A trainer's gRPC server, with the fake model unless told otherwise. */
async function withTrainer(
  work: (world: World) => Promise<void>,
  { real = false, token }: { readonly real?: boolean; readonly token?: string } = {},
): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "drtune-trainer-" });
  const runs = join(root, "runs");
  await mkdir(runs);
  await cp(join(GOLDEN, "tiny-sd"), join(root, "tiny-sd"), { recursive: true });
  const reward = new FakeReward(0.2);
  const connect: RunDependencies["connect"] = ({ name, endpoint, expectedDigest }, signal) => {
    if (endpoint === "silent") {
      silence.asked.resolve();
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          silence.left.resolve(signal.aborted);
          reject(signal.reason);
        });
      });
    }
    if (endpoint === "away") return Promise.reject(new RewardUnavailableError("Reward is away"));
    const cause = expectedDigest !== "" && expectedDigest !== reward.digest
      ? new StatusError("FAILED_PRECONDITION", `Reward ${name} has weights digest 0.2`)
      : endpoint === "dark"
      ? undefined
      : new StatusError("NOT_FOUND", `Reward "${name}" is not here`);
    return cause
      ? Promise.reject(new RewardRefusedError(cause.message, { cause }))
      : Promise.resolve(reward);
  };
  const dependencies: RunDependencies = {
    prepare: (config) => prepareRunConfig(config, { root }),
    openModel: real
      ? (config) => openRunModel(config, { root, session: { intraOpNumThreads: 1 } })
      : () => Promise.resolve(fakeModel()),
    connect,
    admit: (config) => checkRewards(config, (term) => connect(term, AbortSignal.timeout(1000))),
    estimate: () =>
      Promise.resolve({
        phases: [{
          ...{ name: "sampling", runs: 1, pieces: 1, flops: 1, seconds: 3 },
          bytes: 2 ** 31,
        }],
        bytes: 2 ** 31,
        adapterBytes: 6,
        secondsPerIteration: 3,
      }),
    maxRetryMs: 5,
  };
  const store = await RunStore.open(runs, dependencies);
  const server = await startGrpcServer({
    services: [
      trainerService({
        store,
        dependencies,
        modelRoot: root,
        ...(token !== undefined && { token }),
      }),
    ],
    port: 0,
    log: createLogger({ level: "silent" }),
  });
  const client = grpcClient(TrainerService, server.address);
  try {
    await work({ client, address: server.address, root, reward });
    // Whatever was asked of it, it serves.
    assert.equal(await healthStatus(server.address, TrainerService.typeName), "SERVING");
  } finally {
    client.close();
    await store.close();
    await server.stop({ drainSeconds: 1 });
    await rm(root, { recursive: true });
  }
}

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const messages: T[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

/** All events of a run until it ends, each as "step 1", "FINISHED" and so on. */
async function watched(client: Client, runId: string, fromStep = 0): Promise<string[]> {
  return (await all(client.watchRun({ runId, fromStep }))).map(inShort);
}

/** The state a run ends in. */
async function end(client: Client, runId: string): Promise<string> {
  for await (const _ of client.watchRun({ runId }));
  const { run } = await client.getRun({ runId });
  return RunState[run?.state ?? 0] ?? "";
}

function inShort({ event }: WatchRunResponse): string {
  if (event.case === "state") return RunState[event.value.state] ?? "";
  return `${event.case} ${event.value?.step}`;
}

async function refused(call: Promise<unknown>, status: StatusName, message: RegExp): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(error.status, status, error.message);
    assert.match(error.message, message);
    return true;
  });
}

Deno.test("A run is started once, watched, and answered for", () =>
  withTrainer(async ({ client }) => {
    const { run, created } = await client.startRun({ runId: "a", config: CONFIG });
    assert.ok(created);
    assert.equal(run?.config?.optimizer?.maxGradNorm, 0.1);
    const [again, same] = await Promise.all([
      client.startRun({ runId: "a", config: CONFIG }),
      client.startRun({ runId: "a", config: { ...CONFIG, seed: 0 } }),
    ]);
    assert.deepEqual([again.created, same.created], [false, false]);
    await refused(
      client.startRun({ runId: "a", config: { ...CONFIG, seed: 1 } }),
      "ALREADY_EXISTS",
      /^Run "a" is there already with another configuration$/,
    );
    const events = ["step 1", "step 2", "checkpoint 2", "step 3", "checkpoint 3"];
    assert.deepEqual((await watched(client, "a")).filter((e) => /\d/.test(e)), events);
    // The present state first, then what was recorded.
    assert.deepEqual(await watched(client, "a", 2), ["FINISHED", ...events.slice(1)]);
    assert.deepEqual(await watched(client, "a", 100), ["FINISHED"]);
    const found = (await client.getRun({ runId: "a" })).run;
    assert.deepEqual([found?.step, found?.iterations, found?.checkpoints], [3, 3, [2, 3]]);
    assert.deepEqual(found?.latest?.rewards.dark?.digest, "0.2");
    assert.equal(found.latest.prompts.length, 1);
    const { runs } = await client.listRuns({});
    assert.deepEqual(runs.map((r) => [r.id, r.latest?.prompts]), [["a", []]]);
  }));

Deno.test("A run is saved, stopped, resumed and deleted, each only where its state allows it", () =>
  withTrainer(async ({ client, reward }) => {
    const held = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    reward.onCall = async () => {
      if (reward.calls < 2) return;
      reached.resolve();
      await held.promise;
    };
    const runId = "a";
    await client.startRun({ runId, config: { ...CONFIG, checkpointEvery: 0 } });
    await reached.promise;
    const second = { runId: "b", config: CONFIG };
    assert.equal((await client.startRun(second)).run?.state, RunState.QUEUED);
    await refused(client.saveRun({ runId: "b" }), "FAILED_PRECONDITION", /Run "b" is queued/);
    assert.equal((await client.stopRun({ runId: "b" })).run?.state, RunState.STOPPED);
    assert.equal((await client.saveRun({ runId })).step, 2);
    await refused(client.deleteRun({ runId }), "FAILED_PRECONDITION", /is running: stop it first/);
    await refused(client.resumeRun({ runId }), "FAILED_PRECONDITION", /is running, expected it to/);
    assert.equal((await client.stopRun({ runId })).run?.state, RunState.STOPPING);
    // What is asked for while it stops waits for the checkpoint that stopping writes.
    const exported = all(client.exportLora({ runId }));
    held.resolve();
    const [first] = await exported;
    assert.equal(first?.part.case === "file" && first.part.value.step, 2);
    const events = await watched(client, runId);
    assert.deepEqual(events.filter((e) => e.endsWith("2")), ["save 2", "step 2", "checkpoint 2"]);
    assert.equal(await end(client, runId), "STOPPED");
    assert.equal((await client.stopRun({ runId })).run?.state, RunState.STOPPED);
    await refused(client.saveRun({ runId }), "FAILED_PRECONDITION", /is stopped: there is nothing/);
    for (
      const [iterations, status] of [[1, "FAILED_PRECONDITION"], [0, "INVALID_ARGUMENT"]] as const
    ) {
      await refused(client.resumeRun({ runId, iterations }), status, /iterations/);
    }
    assert.equal((await client.resumeRun({ runId, iterations: 4 })).run?.iterations, 4);
    assert.equal(await end(client, runId), "FINISHED");
    await refused(client.resumeRun({ runId }), "FAILED_PRECONDITION", /has done 4 iterations/);
    await client.deleteRun({ runId });
    for (
      const call of [
        client.getRun({ runId }),
        client.stopRun({ runId }),
        client.saveRun({ runId }),
        client.resumeRun({ runId }),
        client.deleteRun({ runId }),
        client.swapReward({ runId, change: { case: "remove", value: "dark" } }),
        watched(client, runId),
        all(client.sample({ runId })),
        all(client.evaluateRun({ runId })),
        all(client.exportLora({ runId })),
      ]
    ) await refused(call, "NOT_FOUND", /^No run "a"$/);
  }));

Deno.test("A watch that is cancelled ends at once, and the run goes on", () =>
  withTrainer(async ({ client, reward }) => {
    const held = Promise.withResolvers<void>();
    reward.onCall = () => held.promise;
    await client.startRun({ runId: "a", config: CONFIG });
    const stop = new AbortController();
    const watching = all(client.watchRun({ runId: "a" }, { signal: stop.signal }));
    for await (const _ of client.watchRun({ runId: "a" })) break;
    stop.abort(new Error("Enough"));
    await assert.rejects(watching, new Error("Enough"));
    held.resolve();
    assert.equal(await end(client, "a"), "FINISHED");
  }));

Deno.test("A configuration that cannot be trained is refused, and the field named", () =>
  withTrainer(async ({ client, root }) => {
    await writeFile(join(root, "prompts.txt"), "\n  a fox \n\nbooks\n");
    await writeFile(join(root, "blank.txt"), "\n \n");
    await symlink(GOLDEN, join(root, "out"));
    const cases: [Config | undefined, StatusName, RegExp][] = [
      [undefined, "INVALID_ARGUMENT", /^Field config is missing$/],
      [{}, "INVALID_ARGUMENT", /^Field model is "", expected/],
      [{ model: "nowhere" }, "NOT_FOUND", /^Field model is "nowhere", which the model root/],
      [{ model: "../etc" }, "INVALID_ARGUMENT", /^Field model .* expected a path inside/],
      [{ model: "/etc" }, "INVALID_ARGUMENT", /^Field model .* expected a path inside/],
      [{ model: "out/tiny-sd" }, "INVALID_ARGUMENT", /^Field model .* expected a path inside/],
      [{ model: "runs" }, "INVALID_ARGUMENT", /model_index\.json: does not exist/],
      [{ prompts: list() }, "INVALID_ARGUMENT", /^Field prompts is \[\], expected/],
      [{ prompts: list("a", " ") }, "INVALID_ARGUMENT", /^Field prompts\.1 is "", expected/],
      [{ prompts: list("x".repeat(10_001)) }, "INVALID_ARGUMENT", /^Field prompts\.0 is "x{99}…, /],
      [{ prompts: file("none.txt") }, "NOT_FOUND", /^Field prompts\.file is "none\.txt", which/],
      [{ prompts: file("../../etc/passwd") }, "INVALID_ARGUMENT", /^Field prompts\.file .* inside/],
      [{ prompts: file("tiny-sd") }, "INVALID_ARGUMENT", /^Field prompts\.file .* a text file$/],
      [{ prompts: file("blank.txt") }, "INVALID_ARGUMENT", /^Field prompts\.file .* no prompt$/],
      [{ heldOutPrompts: file("none.txt") }, "NOT_FOUND", /^Field heldOutPrompts\.file is/],
      [{ method: { k: 4 } }, "INVALID_ARGUMENT", /^Field method\.k is 4, expected an integer of 1/],
      [{ method: { name: "ppo" } }, "INVALID_ARGUMENT", /^Field method\.name is "ppo", expected/],
      [{ sampler: { kind: "euler" } }, "INVALID_ARGUMENT", /^Field sampler\.kind is "euler"/],
      [{ sampler: { steps: 1001 } }, "INVALID_ARGUMENT", /^Field sampler\.steps is 1001, expected/],
      [{ sampler: { eta: 0.5 } }, "INVALID_ARGUMENT", /^Field sampler\.eta is 0\.5, expected 0/],
      [{ guidance: { scale: NaN } }, "INVALID_ARGUMENT", /^Field guidance\.scale is NaN, expected/],
      [{ lora: { rank: 0 } }, "INVALID_ARGUMENT", /^Field lora\.rank is 0, expected/],
      [{ lora: { targets: ["to_x"] } }, "INVALID_ARGUMENT", /^Field lora\.targets .* "to_x" names/],
      [{ lora: { init: "none" } }, "NOT_FOUND", /^Field lora\.init is "none", which/],
      [{ optimizer: { beta1: 1 } }, "INVALID_ARGUMENT", /^Field optimizer\.beta1 is 1, expected/],
      [{ batch: { size: 0 } }, "INVALID_ARGUMENT", /^Field batch\.size is 0, expected/],
      [{ iterations: 0 }, "INVALID_ARGUMENT", /^Field iterations is 0, expected/],
      [{ latentHeight: 4096 }, "INVALID_ARGUMENT", /^Field latentHeight is 4096, expected/],
      [{ rewards: [] }, "INVALID_ARGUMENT", /^Field rewards is \[\], expected/],
      [
        { rewards: [{ name: "dark" }] },
        "INVALID_ARGUMENT",
        /^Field config\.rewards\.0\.endpoint is/,
      ],
      [
        { rewards: [{ name: "dark", endpoint: "dark", weight: 0 }] },
        "INVALID_ARGUMENT",
        /^Field rewards is .* a weight other than 0$/,
      ],
      [{ rewards: [{ name: "x", endpoint: "other" }] }, "NOT_FOUND", /^Reward "x" is not here$/],
      [
        { rewards: [{ name: "dark", endpoint: "dark", expectedDigest: "0.3" }] },
        "FAILED_PRECONDITION",
        /^Reward dark has weights digest 0\.2$/,
      ],
    ];
    for (const [fields, status, message] of cases) {
      const config = fields &&
        (fields.model === undefined && Object.keys(fields).length === 0
          ? fields
          : { ...CONFIG, ...fields });
      const request = config ? { runId: "a", config } : { runId: "a" };
      await refused(client.startRun(request), status, message);
    }
    for (const runId of ["", "../a", "A", "a/b", "x".repeat(65), ".hidden"]) {
      await refused(
        client.startRun({ runId, config: CONFIG }),
        "INVALID_ARGUMENT",
        /^Field runId is ".*", expected 1 to 64 of/,
      );
    }
    assert.deepEqual((await client.listRuns({})).runs, []);
    // What was wrong before is right now; a reward that is merely away does not keep a run from being taken.
    const config = { ...CONFIG, prompts: file("prompts.txt") };
    const { run } = await client.startRun({ runId: "a", config });
    const source = run?.config?.prompts?.source;
    assert.deepEqual(source?.case === "list" && source.value.prompts, ["a fox", "books"]);
    assert.equal(await end(client, "a"), "FINISHED");
    await client.startRun({
      runId: "b",
      config: { ...CONFIG, rewards: [{ name: "x", endpoint: "away" }] },
    });
    for await (const event of client.watchRun({ runId: "b" })) {
      if (inShort(event) === "PAUSED") break;
    }
    await client.stopRun({ runId: "b" });
    assert.equal(await end(client, "b"), "STOPPED");
  }));

Deno.test("Damaged model files are named, when a run is asked for or in its state", () =>
  withTrainer(async ({ client, root }) => {
    const unet = "unet/diffusion_pytorch_model.safetensors";
    const edit = async (path: string, change: (config: Record<string, unknown>) => object) => {
      const config = JSON.parse(await readFile(path, "utf8"));
      await writeFile(path, JSON.stringify({ ...config, ...change(config) }));
    };
    const spoil = async (path: string, name: string) => {
      const bytes = await readFile(path);
      const header = Number(bytes.readBigUInt64LE());
      const { data_offsets } = JSON.parse(bytes.toString("utf8", 8, 8 + header))[name];
      bytes.writeFloatLE(NaN, 8 + header + data_offsets[0]);
      await writeFile(path, bytes);
    };
    const faults: [(folder: string) => Promise<void>, RegExp][] = [
      [
        (f) => truncate(join(f, unet), 100_000),
        /unet\/.*safetensors: has 76904 bytes of data, expe/,
      ],
      [
        (f) => writeFile(join(f, unet), "no weights"),
        /safetensors: is not safetensors, or damaged/,
      ],
      [(f) => rm(join(f, "vae/diffusion_pytorch_model.safetensors")), /vae: holds no weight file/],
      [(f) => rm(join(f, "text_encoder/model.safetensors")), /text_encoder: holds no weight file/],
      [
        (f) => writeFile(join(f, "unet/config.json"), "{"),
        /unet\/config\.json: cannot be read as JS/,
      ],
      [
        (f) => rm(join(f, "tokenizer"), { recursive: true }),
        /tokenizer\/(vocab\.json|merges\.txt): does not exist/,
      ],
      [
        (f) =>
          edit(
            join(f, "vae/config.json"),
            ({ layers_per_block: n }) => ({ layers_per_block: Number(n) + 1 }),
          ),
        /vae\/.*safetensors: has no weight "decoder\.up_blocks\.0\.resnets\.2/,
      ],
      [
        (f) => spoil(join(f, unet), "conv_out.bias"),
        /^Tensor '.*eps.*' holds NaN at \[0, 0, 0, 0\]/,
      ],
    ];
    for (const [i, [damage, message]] of faults.entries()) {
      const model = `model-${i}`;
      await cp(join(root, "tiny-sd"), join(root, model), { recursive: true });
      await damage(join(root, model));
      let told = "";
      try {
        await client.startRun({ runId: model, config: { ...CONFIG, model } });
        await watched(client, model);
        const { run } = await client.getRun({ runId: model });
        assert.equal(run?.state, RunState.FAILED);
        told = run.reason;
      } catch (error) {
        assert.ok(
          error instanceof StatusError && error.status === "INVALID_ARGUMENT",
          String(error),
        );
        told = error.message;
      }
      assert.match(told, message);
    }
  }, { real: true }));

Deno.test("Rewards are swapped at a step boundary, and what cannot be trained is refused", () =>
  withTrainer(async ({ client, reward }) => {
    const held = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    reward.onCall = async () => {
      if (reward.calls !== 2) return;
      reached.resolve();
      await held.promise;
    };
    const runId = "a";
    await client.startRun({ runId, config: CONFIG });
    await reached.promise;
    const dark = { name: "dark", endpoint: "dark" };
    const cases: [Parameters<Client["swapReward"]>[0]["change"], StatusName, RegExp][] = [
      [undefined, "INVALID_ARGUMENT", /^Field change is missing, expected set, remove or mixture$/],
      [
        { case: "remove", value: "x" },
        "INVALID_ARGUMENT",
        /^Field remove is "x", expected one of d/,
      ],
      [
        { case: "remove", value: "dark" },
        "INVALID_ARGUMENT",
        /^Field remove would leave no reward$/,
      ],
      [{ case: "set", value: {} }, "INVALID_ARGUMENT", /^Field set\.0\.endpoint is missing/],
      [{ case: "set", value: { ...dark, weight: NaN } }, "INVALID_ARGUMENT", /weight is NaN/],
      [
        { case: "set", value: { ...dark, weight: 0 } },
        "INVALID_ARGUMENT",
        /a weight other than 0$/,
      ],
      [{ case: "set", value: { ...dark, endpoint: "away" } }, "UNAVAILABLE", /^Reward is away$/],
      [{ case: "set", value: { name: "x", endpoint: "other" } }, "NOT_FOUND", /"x" is not here$/],
      [
        { case: "set", value: { ...dark, expectedDigest: "1" } },
        "FAILED_PRECONDITION",
        /has weights digest 0\.2$/,
      ],
      [{ case: "mixture", value: { rewards: [] } }, "INVALID_ARGUMENT", /^Field rewards is \[\]/],
      [
        { case: "mixture", value: { rewards: [dark, dark] } },
        "INVALID_ARGUMENT",
        /^Field rewards is .* expected distinct names$/,
      ],
    ];
    for (const [change, status, message] of cases) {
      await refused(
        client.swapReward({ runId, ...(change && { change }) }),
        status,
        message,
      );
    }
    assert.equal((await client.getRun({ runId })).run?.rewards.length, 1);
    const value = { name: "twice", endpoint: "dark", weight: 2 };
    const swapped = await client.swapReward({ runId, change: { case: "set", value } });
    assert.deepEqual([swapped.step, swapped.rewards.map((r) => r.name)], [2, ["dark", "twice"]]);
    held.resolve();
    const events = await watched(client, runId);
    assert.ok(events.includes("swap 2"));
    const { run } = await client.getRun({ runId });
    assert.deepEqual(Object.keys(run?.latest?.rewards ?? {}).sort(), ["dark", "twice"]);
    assert.deepEqual(run?.checkpoints, [2, 3]);
    await refused(
      client.swapReward({ runId, change: { case: "remove", value: "twice" } }),
      "FAILED_PRECONDITION",
      /^Run "a" is finished: its rewards stay$/,
    );
  }));

Deno.test("A run is planned without being started; all that it lacks here is listed", () =>
  withTrainer(async ({ client, root }) => {
    const { missing, config, phases, memory, secondsPerIteration } = await client.planRun({
      config: CONFIG,
    });
    assert.deepEqual(missing, []);
    assert.deepEqual([config?.method?.k, config?.lora?.alpha, config?.prompts?.count], [1, 2, 2]);
    // As `planRun` says: tests of it compare its figures with what is measured.
    assert.deepEqual([phases[0]?.name, phases[0]?.memory, phases[0]?.seconds], ["sampling", 2, 3]);
    assert.deepEqual([memory, secondsPerIteration], [2, 3]);
    assert.deepEqual((await client.listRuns({})).runs, []);

    const lacking = await client.planRun({
      config: {
        ...CONFIG,
        model: "nowhere",
        prompts: file("none.txt"),
        rewards: [{ name: "dark", endpoint: "dark" }, { name: "unknown" }],
      },
    });
    assert.deepEqual(lacking.missing, [
      'Field model is "nowhere", which the model root does not have',
      'Field prompts.file is "none.txt", which the model root does not have',
      'Field rewards.1.endpoint is missing and the term\'s name is "unknown", this server knows no ' +
      "reward by name",
    ]);
    assert.equal(lacking.config, undefined);
    const away = await client.planRun({
      config: { ...CONFIG, rewards: [{ name: "dark", endpoint: "away" }, { name: "b" }] },
    });
    assert.equal(away.missing.length, 2);
    assert.match(away.missing[0] ?? "", /^Field rewards\.1\.endpoint is missing/);
    assert.equal(away.missing[1], "Reward dark at away does not answer");
    assert.equal(away.memory, 2);
    await refused(
      client.planRun({ config: { ...CONFIG, lora: { rank: 0 } } }),
      "INVALID_ARGUMENT",
      /^Field lora\.rank is 0/,
    );
    await refused(client.planRun({}), "INVALID_ARGUMENT", /^Field config is missing/);

    await mkdir(join(root, "prompts"));
    await writeFile(join(root, "prompts/a.txt"), "a fox\n");
    for (const path of ["licenses/b.MIT.txt", "prompts/README.txt", "prompts/vocab.txt"]) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), "for people\n");
    }
    await mkdir(join(root, "half"));
    await writeFile(join(root, "half/model_index.json"), '{"_class_name": "FluxPipeline"}');
    const { models, promptFiles, methods } = await client.describeTrainer({});
    assert.deepEqual(models.map(({ path, pipeline, samplers }) => [path, pipeline, samplers]), [
      ["half", "FluxPipeline", []],
      ["tiny-sd", "StableDiffusionPipeline", [...DISCRETE_SAMPLER_KINDS]],
    ]);
    assert.match(models[0]?.fault ?? "", /half/);
    assert.equal(models[1]?.fault, "");
    assert.deepEqual(promptFiles, ["prompts/a.txt"]);
    assert.deepEqual(methods.find(({ name }) => name === "draft-lv")?.parameters, [
      "inputStopGradient",
      "earlyStop",
      "m",
    ]);
  }));

Deno.test("Images are drawn, rewards measured and LoRAs sent, by a real model", () =>
  withTrainer(async ({ client, root }) => {
    const runId = "a";
    await client.startRun({ runId, config: CONFIG });
    await refused(
      all(client.exportLora({ runId })),
      "FAILED_PRECONDITION",
      /^Run "a" has no checkpoint yet: `drtune save a` \(SaveRun\) writes one at its next step$/,
    );
    assert.equal(await end(client, runId), "FINISHED");

    const drawn = async (request: Fields<typeof SampleRequestSchema>) =>
      await all(client.sample({ runId, ...request }));
    const [with2, without] = [await drawn({ imagesPerPrompt: 2 }), await drawn({ step: 0 })];
    assert.deepEqual(with2.map((i) => [i.prompt, i.seed]), [["a dog", 0], ["a dog", 1]]);
    const pixels = async (png: Uint8Array | undefined) =>
      await sharp(png).raw().toBuffer({ resolveWithObject: true });
    const { data, info } = await pixels(with2[0]?.png);
    assert.equal(info.channels, 3);
    const alone = (await drawn({ seed: 1, step: 3 }))[0];
    assert.deepEqual((await pixels(with2[1]?.png)).data, (await pixels(alone?.png)).data);
    assert.notDeepEqual(data, (await pixels(without[0]?.png)).data);
    const unscaled = (await drawn({ loraScale: 0 }))[0];
    assert.deepEqual((await pixels(unscaled?.png)).data, (await pixels(without[0]?.png)).data);

    const cases: [Parameters<typeof drawn>[0], StatusName, RegExp][] = [
      [{ step: 7 }, "NOT_FOUND", /^Run "a" has no checkpoint of step 7, only 2, 3$/],
      [{ step: -1 }, "NOT_FOUND", /no checkpoint of step -1/],
      [{ prompts: [""] }, "INVALID_ARGUMENT", /^Field prompts\.0 is ""/],
      [{ prompts: ["x".repeat(20_000)] }, "INVALID_ARGUMENT", /^Field prompts\.0 is "x/],
      [{ imagesPerPrompt: 0 }, "INVALID_ARGUMENT", /^Field imagesPerPrompt is 0/],
      [{ imagesPerPrompt: 5000 }, "INVALID_ARGUMENT", /^Field imagesPerPrompt asks for 5000/],
      [{ seed: 2 ** 32 - 1, imagesPerPrompt: 2 }, "INVALID_ARGUMENT", /^Field seed comes to/],
      [{ loraScale: NaN }, "INVALID_ARGUMENT", /^Field loraScale is NaN/],
      [{ guidanceScale: -1 }, "INVALID_ARGUMENT", /^Field guidanceScale is -1/],
      [{ sampler: { kind: "euler" } }, "INVALID_ARGUMENT", /^Field sampler\.kind is "euler"/],
      [{ sampler: { steps: 0 } }, "INVALID_ARGUMENT", /^Field sampler\.steps is 0/],
      [{ latentHeight: 0 }, "INVALID_ARGUMENT", /^Field latentHeight is 0/],
    ];
    for (const [request, status, message] of cases) {
      await refused(drawn(request), status, message);
    }

    const evaluated = await all(client.evaluateRun({ runId, prompts: list("a", "b"), seed: 5 }));
    assert.deepEqual(evaluated.map(({ event }) => event.case), ["pair", "pair", "summary"]);
    const [first, second, last] = evaluated.map(({ event }) => event.value);
    assert.ok(first?.$typeName === "drtune.trainer.v1.EvaluatedPair");
    assert.ok(second?.$typeName === "drtune.trainer.v1.EvaluatedPair");
    assert.ok(last?.$typeName === "drtune.trainer.v1.EvaluationSummary");
    const before = (first.before.dark ?? NaN) / 2 + (second.before.dark ?? NaN) / 2;
    assert.ok(Math.abs((last.rewards.dark?.before ?? NaN) - before) < 1e-12);
    assert.deepEqual([first.seed, last.pairs, last.step], [5, 2, 3]);
    assert.equal(last.rewards.dark?.smallerIsBetter, true);
    const unfit: [Fields<typeof EvaluateRunRequestSchema>, StatusName, RegExp][] = [
      [{ prompts: list("") }, "INVALID_ARGUMENT", /^Field prompts\.0/],
      [{ prompts: file("../x") }, "INVALID_ARGUMENT", /^Field prompts\.file .* inside/],
      [{ rewards: [{ name: "x", endpoint: "away" }] }, "UNAVAILABLE", /away/],
      [{ rewards: [{ name: "x", endpoint: "other" }] }, "NOT_FOUND", /"x" is not here/],
      [{ step: 1 }, "NOT_FOUND", /no checkpoint of step 1/],
    ];
    for (const [request, status, message] of unfit) {
      await refused(all(client.evaluateRun({ runId, ...request })), status, message);
    }

    const keys = new Map([
      [LoraFormat.DIFFUSERS, /^unet\..*\.weight$/],
      [LoraFormat.KOHYA, /^lora_unet_/],
      [LoraFormat.PEFT, /^base_model\.model\..*\.lora_[AB]\.weight$/],
    ]);
    for (const [format, pattern] of keys) {
      for (const precision of [LoraPrecision.FLOAT32, LoraPrecision.FLOAT16]) {
        const [about, ...pieces] = await all(
          client.exportLora({ runId, step: 2, format, precision }),
        );
        assert.ok(about?.part.case === "file");
        const bytes = Buffer.concat(
          pieces.map(({ part }) => part.case === "data" ? part.value : assert.fail()),
        );
        const { name, size, sha256, step } = about.part.value;
        assert.deepEqual([Number(size), step], [bytes.length, 2]);
        assert.equal(sha256, createHash("sha256").update(bytes).digest("hex"));
        const path = join(root, name);
        await writeFile(path, bytes);
        const { tensors, metadata } = openSafetensors(path);
        if (format === LoraFormat.PEFT) {
          const { r, lora_alpha } = JSON.parse(metadata.get("adapter_config") ?? "{}");
          assert.deepEqual([r, lora_alpha], [2, 2]);
        }
        const [key = "", tensor] = [...tensors][0] ?? [];
        assert.match(key, pattern);
        assert.equal(tensor?.dtype, precision === LoraPrecision.FLOAT16 ? "float16" : "float32");
      }
    }
    await refused(
      all(client.exportLora({ runId, step: 9 })),
      "NOT_FOUND",
      /no checkpoint of step 9/,
    );
  }, { real: true }));

Deno.test("A full server and a full disk are said, and a token is asked for", async () => {
  const full = Object.assign(new Error("no space left on device, write"), { code: "ENOSPC" });
  assert.equal(trainerErrors(full)?.status, "RESOURCE_EXHAUSTED");
  await withTrainer(async ({ client, reward }) => {
    const held = Promise.withResolvers<void>();
    reward.onCall = () => held.promise;
    const start = (i: number) => client.startRun({ runId: `run-${i}`, config: CONFIG });
    for (let i = 0; i < 100; i++) await start(i);
    await refused(start(100), "RESOURCE_EXHAUSTED", /^There are 100 unfinished runs/);
    assert.equal((await start(99)).created, false);
    for (let i = 1; i < 100; i++) await client.stopRun({ runId: `run-${i}` });
    held.resolve();
    await start(100);
    assert.equal(await end(client, "run-100"), "FINISHED");
  });
  await withTrainer(async ({ client, address }) => {
    await refused(client.listRuns({}), "UNAUTHENTICATED", /^No token/);
    const known = grpcClient(TrainerService, address, { token: "a long enough token" });
    assert.deepEqual((await known.listRuns({})).runs, []);
    known.close();
  }, { token: "a long enough token" });
});

Deno.test("Lists come in pages, without prompts; a long list of prompts is told by its digest", () =>
  withTrainer(async ({ client, root }) => {
    const prompts = Array.from({ length: 3000 }, (_, i) => `a fox number ${i} ${"x".repeat(500)}`);
    await writeFile(join(root, "many.txt"), `${prompts.join("\n")}\n`);
    const sha256 = createHash("sha256").update(`${prompts.join("\n")}\n`).digest("hex");
    for (const runId of ["a", "b", "c"]) {
      const config = { ...CONFIG, prompts: file("many.txt"), iterations: 1 };
      const { run } = await client.startRun({ runId, config });
      const { count, sha256: told, source } = run?.config?.prompts ?? assert.fail();
      assert.deepEqual([count, told], [3000, sha256]);
      assert.ok(source.case === "list" && source.value.prompts.length < 200);
      assert.deepEqual(source.value.prompts, prompts.slice(0, source.value.prompts.length));
      await watched(client, runId);
    }
    const { runs } = await client.listRuns({});
    assert.deepEqual(runs.map(({ id }) => id), ["c", "b", "a"]);
    assert.ok(
      runs.every(({ config, latest }) =>
        config?.prompts?.count === 3000 && config.prompts.source.case === "list" &&
        config.prompts.source.value.prompts.length === 0 && latest?.prompts.length === 0
      ),
    );
    const whole = await client.getRun({ runId: "a", wholePrompts: true });
    assert.deepEqual(whole.run?.config?.prompts?.source.value, {
      ...list(...prompts).source.value,
      $typeName: "drtune.trainer.v1.PromptList",
    });
    const pages: string[][] = [];
    for (let pageToken = "", more = true; more;) {
      const page = await client.listRuns({ pageSize: 2, pageToken });
      pages.push(page.runs.map(({ id }) => id));
      pageToken = page.nextPageToken;
      more = pageToken !== "";
    }
    assert.deepEqual(pages, [["c", "b"], ["a"]]);
    await refused(client.listRuns({ pageSize: -1 }), "INVALID_ARGUMENT", /Field pageSize is -1/);
    await refused(client.listRuns({ pageToken: "x" }), "INVALID_ARGUMENT", /Field pageToken/);
  }));

Deno.test("An evaluation whose caller goes while a reward is connected leaves its turn to the next", () =>
  withTrainer(async ({ client }) => {
    await client.startRun({ runId: "run", config: { ...CONFIG, iterations: 1 } });
    await watched(client, "run");
    const abort = new AbortController();
    const asking = all(
      client.evaluateRun(
        { runId: "run", rewards: [{ name: "silent", endpoint: "silent" }] },
        { signal: abort.signal },
      ),
    );
    asking.catch(() => {});
    await silence.asked.promise;
    // Others do not wait for it.
    assert.equal((await all(client.sample({ runId: "run" }))).length, 1);
    abort.abort();
    await assert.rejects(asking);
    assert.equal(await silence.left.promise, true);
  }));
