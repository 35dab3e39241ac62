import assert from "node:assert/strict";
import { createLogger } from "../../base/mod.ts";
import { DataType, Direction, RewardService } from "../../proto/mod.ts";
import { StatusError } from "./errors.ts";
import { secured } from "./endpoint.ts";
import { type GrpcServer, startGrpcServer } from "./grpc_server.ts";
import { grpcService } from "./grpc_service.ts";
import { parseReplicaAddresses } from "./replica_addresses.ts";
import { RemoteReward, type RemoteRewardOptions } from "./remote_reward.ts";
import { rewardClient } from "./reward_client.ts";

/** A server whose score of an image is its first pixel, and whose gradient is the image. */
interface Fake {
  readonly server: GrpcServer;
  digest: string;
  /** What it says of a request. */
  limits: { readonly maxImages: number; maxPixels?: number; maxMessageBytes?: number };
  /** Images of each call. */
  readonly asked: number[];
  /** What a call waits for, or fails with, before it is answered. */
  before: () => Promise<void>;
  /** The same for questions about its facts. */
  beforeFacts: () => Promise<void>;
}

const WIDTH = 12;
const never = () => new Promise<void>(() => {});
const atOnce = () => Promise.resolve();

async function startFake(
  { host = "127.0.0.1", port = 0, maxMessageBytes = 2 ** 26 } = {},
): Promise<Fake> {
  const missing = () => Promise.reject(new StatusError("UNIMPLEMENTED", "Not part of this test"));
  const server = await startGrpcServer({
    services: [grpcService(RewardService, {
      describe: async () => {
        await fake.beforeFacts();
        const { digest, limits } = fake;
        const direction = Direction.MAXIMISE;
        return {
          rewards: [{ name: "first", digest, direction, limits }],
          defaultReward: "first",
        };
      },
      score: missing,
      scoreAndGradient: async ({ images }) => {
        const source = images[0]?.source;
        assert.ok(source?.case === "tensor");
        const { data, shape } = source.value;
        fake.asked.push(shape[0] ?? 0);
        await fake.before();
        const values = new Float32Array(data.slice().buffer);
        return {
          scores: Array.from({ length: shape[0] ?? 0 }, (_, i) => values[i * WIDTH] ?? NaN),
          gradients: [{ dtype: DataType.FLOAT32, shape, data }],
          reward: "first",
          digest: fake.digest,
        };
      },
      evaluate: async function* () {},
    })],
    host,
    port,
    maxMessageBytes,
    log: createLogger({ level: "silent" }),
  });
  const limits = { maxImages: 64 };
  const rest = { before: atOnce, beforeFacts: atOnce };
  const fake: Fake = { server, digest: "d1", limits, asked: [], ...rest };
  return fake;
}

async function withFakes(
  count: number,
  work: (fakes: readonly Fake[], endpoint: string) => Promise<void>,
): Promise<void> {
  const fakes = await Promise.all(Array.from({ length: count }, () => startFake()));
  try {
    await work(fakes, fakes.map(({ server }) => server.address).join(","));
  } finally {
    await Promise.all(fakes.map(({ server }) => server.stop({ drainSeconds: 0.1 })));
  }
}

async function withReward(
  endpoint: string,
  work: (ask: (batch: number) => Promise<string>, reward: RemoteReward) => Promise<void>,
  options: RemoteRewardOptions = {},
): Promise<void> {
  const reward = await RemoteReward.connect(endpoint, {
    ...{ retry: { attempts: 3 }, timeoutMs: 20_000, connectMs: 5_000, watchMs: 300 },
    ...options,
  });
  /** Asks for a batch, checks that each image has its own answer in its place, and says whose it is. */
  const ask = async (batch: number) => {
    const data = Float32Array.from({ length: batch * WIDTH }, (_, i) => i);
    const images = { dtype: "float32" as const, shape: [batch, 3, 2, 2], data };
    const { scores, gradient, digest } = await reward.score(images, [], { gradient: true });
    assert.deepEqual([...scores], Array.from({ length: batch }, (_, i) => i * WIDTH));
    assert.deepEqual(gradient?.data, data);
    return digest ?? "";
  };
  try {
    await work(ask, reward);
  } finally {
    await reward.dispose();
  }
}

Deno.test("Images are divided among replicas, and each answer stands where its image stood", () =>
  withFakes(3, (fakes, endpoint) =>
    withReward(endpoint, async (ask) => {
      await ask(8);
      assert.deepEqual(fakes.flatMap(({ asked }) => asked).toSorted(), [2, 3, 3]);
      await ask(1);
      await ask(200);
      const all = fakes.flatMap(({ asked }) => asked);
      assert.equal(all.reduce((a, b) => a + b), 209);
      assert.ok(Math.max(...all) <= 64);
    })));

Deno.test("Requests stay within the pixels and the bytes that a server takes, and within this client's own", async () => {
  const fake = await startFake({ maxMessageBytes: 40_000 });
  const [endpoint, side] = [fake.server.address, 32];
  const size = 3 * side * side;
  const images = (batch: number) => ({
    dtype: "float32" as const,
    shape: [batch, 3, side, side],
    data: Float32Array.from({ length: batch * size }, (_, i) => i),
  });
  const largest = async (options: RemoteRewardOptions = {}) => {
    fake.asked.length = 0;
    await withReward(endpoint, async (_, reward) => {
      const { scores, gradient } = await reward.score(images(8), [], { gradient: true });
      assert.equal(scores.length, 8);
      assert.deepEqual(gradient?.data, images(8).data);
    }, options);
    assert.equal(fake.asked.reduce((a, b) => a + b), 8);
    return Math.max(...fake.asked);
  };
  try {
    // Of 12,288 bytes each.
    fake.limits = { maxImages: 64, maxMessageBytes: 40_000 };
    assert.equal(await largest(), 2);
    assert.equal(await largest({ maxMessageBytes: 20_000 }), 1);
    fake.limits = { maxImages: 64, maxMessageBytes: 40_000, maxPixels: 1500 };
    assert.equal(await largest(), 1);
    // One that no message holds is not waited for.
    await assert.rejects(largest({ maxMessageBytes: 10_000 }), {
      status: "INVALID_ARGUMENT",
      message: "An image of 32x32 takes 16416 bytes of a request, expected at most 10000, the " +
        "largest message of first",
    });
  } finally {
    await fake.server.stop({ drainSeconds: 0.1 });
  }
});

Deno.test("A replica that is lost, full or broken costs no answer, and is asked again when it is back", () =>
  withFakes(3, (fakes, endpoint) =>
    withReward(endpoint, async (ask) => {
      const [lost] = fakes;
      assert.ok(lost);
      const counts = () => fakes.map(({ asked }) => asked.length);
      for (const status of ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"] as const) {
        lost.before = () => Promise.reject(new StatusError(status, "Not now"));
        for (let i = 0; i < 3; i++) await ask(6);
      }
      lost.before = atOnce;
      const [before = 0] = counts();
      for (const end = performance.now() + 10_000; performance.now() < end;) {
        await ask(6);
        if ((counts()[0] ?? 0) > before) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      assert.fail("It was not asked again");
    })));

Deno.test("A call is taken from a replica that hangs; one that computes is waited for", () =>
  withFakes(2, (fakes, endpoint) =>
    withReward(endpoint, async (ask) => {
      const [hung, slow] = fakes;
      assert.ok(hung && slow);
      slow.before = () => new Promise((resolve) => setTimeout(resolve, 1000));
      const begun = performance.now();
      await ask(2);
      assert.deepEqual([hung.asked, slow.asked], [[1], [1]]);
      hung.before = hung.beforeFacts = never;
      await ask(2);
      assert.deepEqual(slow.asked, [1, 1, 1]);
      assert.ok(performance.now() - begun < 10_000);
      // It is known now: nobody waits for it, nor loses time with it.
      await ask(2);
      assert.equal(hung.asked.length, 2);
      // The last replica is waited for, whatever it says.
      slow.beforeFacts = never;
      await ask(2);
    })));

Deno.test("A fault of the request is told at once, and no other replica is asked", () =>
  withFakes(2, (fakes, endpoint) =>
    withReward(endpoint, async (ask) => {
      for (const fake of fakes) {
        fake.before = () => Promise.reject(new StatusError("INVALID_ARGUMENT", "Image is odd"));
      }
      await assert.rejects(ask(1), { status: "INVALID_ARGUMENT", message: "Image is odd" });
      assert.equal(fakes.flatMap(({ asked }) => asked).length, 1);
    })));

Deno.test("Where all replicas fail the last failure is told", () =>
  withFakes(2, (fakes, endpoint) =>
    withReward(endpoint, async (ask) => {
      for (const fake of fakes) {
        fake.before = () => Promise.reject(new StatusError("INTERNAL", "Broken"));
      }
      await assert.rejects(ask(1), { status: "INTERNAL", message: "Broken" });
    })));

Deno.test("A swap that rolls through replicas changes a run's weights once", async () => {
  const told: string[] = [];
  await withFakes(3, (fakes, endpoint) =>
    withReward(endpoint, async (ask) => {
      const digests = [await ask(6)];
      for (const fake of fakes) {
        fake.digest = "d2";
        digests.push(await ask(6), await ask(6));
      }
      assert.deepEqual(digests, ["d1", "d1", "d1", "d1", "d1", "d2", "d2"]);
      // Each one that was swapped before the last is told of once.
      assert.equal(told.length, 2);
      assert.match(
        told[0] ?? "",
        /^127\.0\.0\.1:\d+ serves d2 while other replicas serve d1: it is not asked$/,
      );
    }, { onSetAside: (message) => told.push(message) }));
});

Deno.test("Replicas with different weights are refused, unless a digest says which are meant", () =>
  withFakes(3, async (fakes, endpoint) => {
    const [other] = fakes;
    assert.ok(other);
    other.digest = "d2";
    await assert.rejects(withReward(endpoint, async () => {}), {
      status: "FAILED_PRECONDITION",
      message:
        /^Replicas of first have different weights, expected one digest or expectedDigest: 127\.0\.0\.1:\d+ d/,
    });
    await withReward(endpoint, async (ask) => {
      for (let i = 0; i < 3; i++) assert.equal(await ask(6), "d1");
    }, { expectedDigest: "d1" });
    await withReward(endpoint, async (ask) => {
      for (let i = 0; i < 3; i++) assert.equal(await ask(6), "d2");
    }, { expectedDigest: "d2" });
    await assert.rejects(withReward(endpoint, async () => {}, { expectedDigest: "d3" }), {
      status: "FAILED_PRECONDITION",
      message: /expected d3$/,
    });
  }));

Deno.test("A reward is there when one of its replicas is, whatever has become of the others", () =>
  withFakes(1, async ([fake], endpoint) => {
    assert.ok(fake);
    await withReward(`${endpoint},127.0.0.1:9`, async (ask) => {
      await ask(4);
      assert.deepEqual(fake.asked, [4]);
    }, { retry: { attempts: 1 } });
  }));

Deno.test({
  name: "Every address of a name is a replica, as of now",
  // Other systems have one address of their own.
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const first = await startFake();
    const port = Number(first.server.address.split(":")[1]);
    const second = await startFake({ host: "127.0.0.2", port });
    const found = { addresses: ["127.0.0.1", "127.0.0.2"] };
    const names: string[] = [];
    const lookUp = (name: string) => {
      names.push(name);
      return found.addresses.length > 0
        ? Promise.resolve(found.addresses)
        : Promise.reject(new Error("ENOTFOUND"));
    };
    try {
      await withReward(`dns:///rewards.test:${port}`, async (ask) => {
        await ask(4);
        assert.deepEqual([first.asked, second.asked, names[0]], [[2], [2], "rewards.test"]);
      }, { lookUp });
      found.addresses = [];
      await assert.rejects(withReward(`dns:///rewards.test:${port}`, async () => {}, { lookUp }), {
        status: "UNAVAILABLE",
        message: "Name rewards.test has no address: ENOTFOUND",
      });
    } finally {
      for (const { server } of [first, second]) await server.stop({ drainSeconds: 0.1 });
    }
  },
});

Deno.test("A client of replicas answers as one of a server", () =>
  withFakes(2, async (fakes, endpoint) => {
    const client = rewardClient(endpoint, { retry: { attempts: 2 } });
    try {
      const [lost] = fakes;
      assert.ok(lost);
      await lost.server.stop({ drainSeconds: 0 });
      for (let i = 0; i < 3; i++) {
        assert.equal((await client.describe({})).defaultReward, "first");
      }
    } finally {
      client.close();
    }
  }));

Deno.test("Addresses of replicas are read, and refused where they are something else", () => {
  const list = (text: string) => {
    const found = parseReplicaAddresses(text);
    return found?.kind === "list" ? found.addresses : found?.endpoint;
  };
  assert.deepEqual(list("a:1"), ["a:1"]);
  assert.deepEqual(list("a:1,grpcs://b:2"), ["a:1", "grpcs://b:2"]);
  assert.deepEqual(list("dns:///a:1"), { host: "a", authority: "a:1", secure: false });
  assert.deepEqual(list("grpcs+dns:///a:1"), { host: "a", authority: "a:1", secure: true });
  for (const bad of ["", "a", "a:1,", "a:1,a:1", "dns:///a", "dns:///a:1,b:2", "dns://a:1"]) {
    assert.equal(list(bad), undefined, bad);
  }
  assert.equal(list("grpcs+dns:///grpcs://a:1"), undefined);
  assert.equal(secured("a:1,grpcs://b:2"), "grpcs://a:1,grpcs://b:2");
  assert.equal(secured(secured("dns:///a:1")), "grpcs+dns:///a:1");
});
