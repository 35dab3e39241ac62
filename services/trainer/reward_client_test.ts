import assert from "node:assert/strict";
import { DataType, Direction, RewardService } from "../../proto/mod.ts";
import { float32 } from "../../autodiff/mod.ts";
import {
  parseRunConfig,
  RewardMixture,
  RewardRefusedError,
  type RewardTerm,
  RewardUnavailableError,
} from "../../trainer/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { readClientTls, readServerTls } from "../launch/mod.ts";
import {
  grpcService,
  type Handlers,
  secured,
  type ServerTls,
  startGrpcServer,
  StatusError,
  type StatusName,
} from "../rpc/mod.ts";
import { checkRewards, connectReward } from "./reward_client.ts";

type Answer = Exclude<
  Awaited<ReturnType<Handlers<typeof RewardService>["scoreAndGradient"]>>,
  { readonly $typeName: string }
>;

const images = float32(new Float32Array(24).fill(0.5), [2, 3, 2, 2]);
const prompts = ["a fox", "books"];

function gradient(values: Float32Array<ArrayBuffer>) {
  const data = new Uint8Array(values.buffer);
  return { dtype: DataType.FLOAT32, shape: [values.length / 12, 3, 2, 2], data };
}

const SOUND: Answer = {
  scores: [1, 2],
  gradients: [gradient(new Float32Array(24).fill(0.25))],
  reward: "odd",
  digest: "0f",
};

/** A term whose server answers as told; `calls` counts what it was asked. */
async function withReward(
  answer: (calls: number) => Promise<Answer>,
  work: (term: RewardTerm, calls: () => number) => Promise<void>,
  tls?: ServerTls,
): Promise<void> {
  let calls = 0;
  const missing = () => Promise.reject(new StatusError("UNIMPLEMENTED", "Not part of this test"));
  const server = await startGrpcServer({
    services: [grpcService(RewardService, {
      describe: ({ reward }) =>
        reward === "none"
          ? Promise.reject(new StatusError("NOT_FOUND", 'Reward "none" is not here; there are odd'))
          : Promise.resolve({
            rewards: [{
              name: "odd",
              digest: "0f",
              direction: Direction.MAXIMISE,
              limits: { maxImages: 8 },
            }],
            defaultReward: "odd",
          }),
      score: missing,
      scoreAndGradient: () => answer(++calls),
      evaluate: async function* () {},
    })],
    port: 0,
    ...(tls && { tls }),
    log: createLogger({ level: "silent" }),
  });
  const term = { name: "odd", endpoint: server.address, reward: "", weight: 1, expectedDigest: "" };
  try {
    await work(term, () => calls);
  } finally {
    await server.stop({ drainSeconds: 0.1 });
  }
}

async function evaluated(term: RewardTerm, timeoutMs = 60_000) {
  const client = await connectReward(term, { timeoutMs });
  try {
    return await new RewardMixture([{ term, client }]).evaluate(images, prompts);
  } finally {
    await client.close();
  }
}

Deno.test("A reward that is away for a moment is asked again", () =>
  withReward((calls) => {
    if (calls < 3) return Promise.reject(new StatusError("UNAVAILABLE", "Is started again"));
    return Promise.resolve(SOUND);
  }, async (term, calls) => {
    const { loss } = await evaluated(term);
    assert.deepEqual([loss, calls()], [-1.5, 3]);
  }));

Deno.test("A reward that fails, is slow or answers nonsense is one to wait for", async () => {
  const nan = new Float32Array(24);
  nan[13] = NaN;
  const fails = (status: StatusName) => () => Promise.reject(new StatusError(status, "Broken"));
  const gives = (change: Answer) => () => Promise.resolve({ ...SOUND, ...change });
  const cases: [() => Promise<Answer>, RegExp][] = [
    [fails("RESOURCE_EXHAUSTED"), /^Reward odd at 127\.0\.0\.1:\d+: Broken$/],
    [fails("INTERNAL"), /: Broken$/],
    [() => new Promise(() => {}), /^Reward odd at .*[Dd]eadline exceeded/],
    [gives({ scores: [1] }), /odd answered 1 scores for 2 images$/],
    [gives({ scores: [1, Infinity] }), /^Tensor 'scores of reward odd' holds Infinity at \[1\]/],
    [gives({ gradients: [] }), /odd answered 0 bytes of gradient, expected 96$/],
    [gives({ gradients: [gradient(new Float32Array(12))] }), /odd answered 48 bytes of gradient/],
    [gives({ gradients: [gradient(nan)] }), /'gradient of reward odd' holds NaN at \[1, 0, 0, 1\]/],
  ];
  for (const [answer, message] of cases) {
    await withReward(answer, async (term) => {
      await assert.rejects(evaluated(term, 300), (error) => {
        assert.ok(error instanceof RewardUnavailableError, String(error));
        assert.ok(!(error instanceof RewardRefusedError));
        assert.match(error.message, message);
        return true;
      });
    });
  }
});

Deno.test("Another reward or other weights are refused, at once where a run is asked for", () =>
  withReward(() => Promise.resolve(SOUND), async (term) => {
    const config = (fields: Partial<RewardTerm>) =>
      parseRunConfig({ model: "m", prompts: ["a"], rewards: [{ ...term, ...fields }] });
    const checked = (fields: Partial<RewardTerm>) =>
      checkRewards(config(fields), (one) => connectReward(one));
    const refused = (message: RegExp) => (error: unknown) => {
      assert.ok(error instanceof RewardRefusedError, String(error));
      assert.match(error.message, message);
      return true;
    };
    await checked({ expectedDigest: "0f" });
    await assert.rejects(
      checked({ expectedDigest: "1e" }),
      refused(/has weights digest 0f, expected 1e$/),
    );
    await assert.rejects(checked({ reward: "none" }), refused(/Reward "none" is not here/));
  }));

Deno.test("A reward over TLS is one whose certificate is known; another is refused", async () => {
  const folder = new URL("../rpc/testing/tls/", import.meta.url).pathname;
  const tls = await readServerTls({ cert: "server.pem", key: "server.key" }, folder);
  await withReward(() => Promise.resolve(SOUND), async (term) => {
    const secure = { ...term, endpoint: secured(term.endpoint) };
    const tls = await readClientTls({ ca: "ca.pem" }, folder);
    const client = await connectReward(secure, { tls });
    const { scores } = await client.score(images, prompts, { gradient: true });
    assert.deepEqual([...scores], [1, 2]);
    await client.close();
    await assert.rejects(connectReward(secure), (error) => {
      assert.ok(error instanceof RewardRefusedError, String(error));
      assert.match(error.message, /^Reward odd at grpcs:.*: no authority that is trusted here/);
      return true;
    });
  }, tls);
});

Deno.test("A run is taken although a reward is away, and does not wait for it long", async () => {
  const term = { name: "a", endpoint: "a", reward: "", weight: 1, expectedDigest: "" };
  const config = parseRunConfig({ model: "m", prompts: ["a"], rewards: [term] });
  await checkRewards(config, () => Promise.reject(new RewardUnavailableError("Is away")));
  await assert.rejects(
    checkRewards(config, () => Promise.reject(new StatusError("UNAUTHENTICATED", "No token"))),
    { status: "UNAUTHENTICATED" },
  );
});
