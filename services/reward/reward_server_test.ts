import assert from "node:assert/strict";
import {
  DataType,
  GRPCInferenceService,
  RewardAdmin,
  RewardService,
  RewardState,
} from "../../proto/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { grpcClient, type StatusName } from "../rpc/mod.ts";
import { healthStatus, listServices } from "../rpc/testing/mod.ts";
import { rewardServerSchema, startRewardServer } from "./reward_server.ts";
import { flatImages } from "./testing/images.ts";
import { hasStatus } from "./testing/status.ts";

const NAME = RewardService.typeName;
const TOKEN = "aTokenOfEnoughLetters";

function image(values: readonly number[], side = 2) {
  const { data, shape } = flatImages(values, side, side);
  const bytes = new Uint8Array(data.buffer);
  return {
    source: {
      case: "tensor" as const,
      value: { dtype: DataType.FLOAT32, shape: [...shape], data: bytes },
    },
  };
}

Deno.test("A reward server from end to end", async (t) => {
  const folder = await Deno.makeTempDir();
  await Deno.writeTextFile(`${folder}/token`, `${TOKEN}\n`);
  const config = rewardServerSchema.parse({
    port: 0,
    rewards: [
      { kind: "fake", name: "mean", scale: 2 },
      { kind: "fake", name: "slow", readsPrompt: true, blockMs: 150 },
    ],
    default: "mean",
    limits: { maxImages: 2, maxMessageBytes: 1e6 },
    batching: { maxQueuedImages: 2, maxBatch: 1 },
    admin: { port: 0, tokenFile: "token" },
    logLevel: "silent",
  });
  const server = await startRewardServer(config, {
    folder,
    worker: new URL("./testing/fake_worker.ts", import.meta.url),
    log: createLogger({ level: "silent" }),
  });
  const { address, adminAddress = "" } = server;
  const client = grpcClient(RewardService, address, { retry: {} });
  const once = grpcClient(RewardService, address);
  const admin = grpcClient(RewardAdmin, adminAddress, { token: TOKEN });
  try {
    await t.step("describes, scores and differentiates", async () => {
      const { rewards } = await client.describe({});
      assert.deepEqual(rewards.map(({ name, digest }) => [name, digest]), [
        ["mean", "scale 2"],
        ["slow", "scale 1"],
      ]);
      const { scores, digest, timing } = await client.score({ images: [image([0.5, 1])] });
      assert.deepEqual([scores, digest], [[1, 2], "scale 2"]);
      assert(timing && timing.computeSeconds > 0 && timing.queueSeconds >= 0);
      const { gradients } = await client.scoreAndGradient({ reward: "mean", images: [image([1])] });
      const data = gradients[0]?.data.slice().buffer ?? new ArrayBuffer(0);
      assert.deepEqual(new Float32Array(data), new Float32Array(12).fill(2 / 12));
    });

    await t.step("evaluates a stream", async () => {
      async function* requests() {
        for (let index = 0; index < 40; index++) yield { index, image: image([index]) };
      }
      const scores: number[] = [];
      for await (const { index, result } of client.evaluate(requests())) {
        if (result.case === "evaluation") scores[index] = result.value.score;
        // The queue holds two images: what does not fit is told so at once.
        else assert.equal(result.value?.code, 8);
      }
      assert(scores.some((score, index) => score === 2 * index));
      assert(scores.every((score, index) => score === undefined || score === 2 * index));
    });

    await t.step("speaks the inference protocol", async () => {
      const oip = grpcClient(GRPCInferenceService, address);
      const { data } = flatImages([0.5]);
      const { outputs } = await oip.modelInfer({
        modelName: "mean",
        inputs: [{
          name: "IMAGE",
          datatype: "FP32",
          shape: [1n, 3n, 2n, 2n],
          contents: { fp32Contents: [...data] },
        }],
      });
      assert.deepEqual(outputs[0]?.contents?.fp32Contents, [1]);
      await assert.rejects(oip.repositoryIndex({}), hasStatus("UNIMPLEMENTED", /admin port/));
      oip.close();
    });

    await t.step("answers health and reflection", async () => {
      for (const name of ["", NAME, `${NAME}/mean`, `${NAME}/slow`]) {
        assert.equal(await healthStatus(address, name), "SERVING", name);
      }
      assert.deepEqual(await listServices(address, "v1"), [
        NAME,
        "grpc.health.v1.Health",
        GRPCInferenceService.typeName,
      ]);
    });

    await t.step("refuses bad input and stays up", async () => {
      const cut = image([0]);
      const short = { ...cut.source.value, data: new Uint8Array(7) };
      const cases: [Parameters<typeof client.score>[0], StatusName, RegExp][] = [
        [{ reward: "none", images: [image([0])] }, "NOT_FOUND", /there are mean, slow$/],
        [{ images: [] }, "INVALID_ARGUMENT", /no image/],
        [{ images: [{ source: { case: "tensor", value: short } }] }, "INVALID_ARGUMENT", /7 bytes/],
        [{ images: [image([NaN])] }, "INVALID_ARGUMENT", /NaN at \[0, 0, 0, 0\]/],
        [{ images: [image([0, 0, 0])] }, "INVALID_ARGUMENT", /3 images, at most 2/],
        [{ reward: "slow", images: [image([0])] }, "INVALID_ARGUMENT", /0 prompts for 1 images/],
        [{ images: [image([0], 300)] }, "RESOURCE_EXHAUSTED", /larger/],
      ];
      for (const [request, status, message] of cases) {
        await assert.rejects(client.score(request), hasStatus(status, message));
      }
      assert.deepEqual((await client.score({ images: [image([1])] })).scores, [2]);
    });

    const slow = { reward: "slow", images: [image([0])], prompts: ["abc"] };

    await t.step("answers health while a model computes", async () => {
      // The only folder of these that the reward's process may read.
      const kept = `${folder}/.cache/weights`;
      await Deno.mkdir(kept, { recursive: true });
      const file = `${kept}/done`;
      const running = client.score({ ...slow, prompts: [file] });
      for (let i = 0; i < 3; i++) assert.equal(await healthStatus(address, ""), "SERVING");
      await Deno.writeTextFile(file, "");
      assert.deepEqual((await running).scores, [file.length]);
    });

    await t.step("refuses at once what the queue does not hold", async () => {
      const running = client.score(slow);
      await new Promise((resolve) => setTimeout(resolve, 50));
      const waiting = client.score({ ...slow, images: [image([0, 0])] });
      await new Promise((resolve) => setTimeout(resolve, 20));
      await assert.rejects(
        client.score(slow),
        hasStatus("RESOURCE_EXHAUSTED", /^Queue of reward slow is full/),
      );
      assert.deepEqual((await running).scores, [3]);
      assert.deepEqual((await waiting).scores, [3, 3]);
    });

    await t.step("honours deadlines and cancellation", async () => {
      await assert.rejects(
        client.score(slow, { timeoutMs: 40 }),
        hasStatus("DEADLINE_EXCEEDED", /./),
      );
      const controller = new AbortController();
      setTimeout(() => controller.abort(new Error("Enough")), 40);
      await assert.rejects(client.score(slow, { signal: controller.signal }), new Error("Enough"));
      assert.deepEqual((await client.score(slow)).scores, [3]);
    });

    await t.step("outlives a crash", async () => {
      await assert.rejects(
        once.score({ ...slow, prompts: ["crash"] }),
        hasStatus("UNAVAILABLE", /^Process of reward slow ended/),
      );
      assert.deepEqual((await client.score(slow)).scores, [3]);
      const { rewards } = await admin.listRewards({});
      assert.deepEqual(rewards.map(({ state, restarts }) => [state, restarts]), [
        [RewardState.READY, 0],
        [RewardState.READY, 1],
      ]);
    });

    await t.step("swaps under load without a failed request", async () => {
      let swapping = true;
      const digests = new Set<string>();
      // Each client has one request at a time: two are all the queue holds.
      const clients = [1, 2].map(async () => {
        while (swapping) {
          const { scores, digest } = await once.score({ reward: "mean", images: [image([1])] });
          assert.equal(digest, `scale ${scores[0]}`);
          digests.add(digest);
        }
      });
      for (const scale of [3, 4]) {
        const { reward } = await admin.loadReward({
          name: "mean",
          config: { kind: "fake", scale },
        });
        assert.equal(reward?.digest, `scale ${scale}`);
      }
      await assert.rejects(
        admin.loadReward({ name: "mean", config: { kind: "fake", fails: "Weights are cut" } }),
        hasStatus("FAILED_PRECONDITION", /^Reward mean cannot be loaded: Weights are cut$/),
      );
      swapping = false;
      await Promise.all(clients);
      assert.deepEqual([...digests], ["scale 2", "scale 3", "scale 4"]);
    });

    await t.step("lets nobody swap without the token", async () => {
      const nobody = grpcClient(RewardAdmin, adminAddress);
      await assert.rejects(nobody.listRewards({}), hasStatus("UNAUTHENTICATED", /^No token/));
      nobody.close();
      const elsewhere = grpcClient(RewardAdmin, address, { token: TOKEN });
      await assert.rejects(elsewhere.listRewards({}), hasStatus("UNIMPLEMENTED", /./));
      elsewhere.close();
    });

    await t.step("unloads", async () => {
      await admin.unloadReward({ name: "slow" });
      await assert.rejects(client.score(slow), hasStatus("NOT_FOUND", /there are mean$/));
      assert.equal(await healthStatus(address, `${NAME}/slow`), "NOT_SERVING");
      assert.equal(await healthStatus(address, NAME), "SERVING");
    });
  } finally {
    for (const { close } of [client, once, admin]) close();
    await server.stop();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("Limits let no request in that the queue can never hold", () => {
  const parse = (config: object) =>
    rewardServerSchema.safeParse({ rewards: [{ kind: "fake" }], ...config });
  const limits = { maxPixels: 2 ** 26 };
  const [issue] = parse({ limits }).error?.issues ?? [];
  assert.deepEqual(issue?.path, ["batching", "maxQueuedBytes"]);
  assert.equal(
    issue?.message,
    "is 536870912, less than the 805306368 bytes that limits.maxPixels, 67108864, are in float32",
  );
  assert.ok(parse({ limits, batching: { maxQueuedBytes: 12 * 2 ** 26 } }).success);
});

Deno.test("A server that cannot load a reward ends, and says which", async () => {
  const config = rewardServerSchema.parse({
    port: 0,
    rewards: [{ kind: "fake", name: "good" }, { kind: "fake", name: "bad", fails: "No such file" }],
  });
  await assert.rejects(
    startRewardServer(config, {
      worker: new URL("./testing/fake_worker.ts", import.meta.url),
      log: createLogger({ level: "silent" }),
    }),
    hasStatus("FAILED_PRECONDITION", /^Reward bad cannot be loaded: No such file$/),
  );
});

Deno.test("A reward server counts calls, images, waits and computations", async () => {
  const config = rewardServerSchema.parse({
    port: 0,
    metricsPort: 0,
    rewards: [{ kind: "fake", name: "mean" }],
    logLevel: "silent",
  });
  const { address, metricsAddress, stop } = await startRewardServer(config, {
    worker: new URL("./testing/fake_worker.ts", import.meta.url),
  });
  const client = grpcClient(RewardService, address);
  try {
    await client.score({ images: [image([0.5]), image([0.25])] });
    await client.scoreAndGradient({ images: [image([0.5])] });
    await assert.rejects(client.score({ images: [] }));
    const text = await (await fetch(`http://${metricsAddress}/metrics`)).text();
    const call = (method: string, status: string) =>
      `drtune_rpc_requests_total{service="${NAME}",method="${method}",status="${status}"} 1`;
    for (
      const line of [
        call("Score", "OK"),
        call("Score", "INVALID_ARGUMENT"),
        call("ScoreAndGradient", "OK"),
        `drtune_rpc_duration_seconds_count{service="${NAME}",method="Score"} 2`,
        "drtune_rpc_in_progress 0",
        'drtune_reward_images_total{reward="mean",gradient="no"} 2',
        'drtune_reward_images_total{reward="mean",gradient="yes"} 1',
        'drtune_reward_compute_seconds_count{reward="mean",gradient="yes"} 1',
        'drtune_reward_queue_seconds_count{reward="mean"} 3',
        'drtune_reward_queued_images{reward="mean"} 0',
        'drtune_reward_ready{reward="mean"} 1',
        'drtune_reward_restarts_total{reward="mean"} 0',
      ]
    ) assert.ok(text.split("\n").includes(line), `${line}\nin\n${text}`);
  } finally {
    client.close();
    await stop();
  }
});
