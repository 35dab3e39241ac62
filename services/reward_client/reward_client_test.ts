import assert from "node:assert/strict";
import { DataType, Direction, RewardService } from "../../proto/mod.ts";
import { float32 } from "../../autodiff/mod.ts";
import {
  parseRunConfig,
  type RewardClient,
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
import { checkRewards, connectAll, connectReward, MEANINGS } from "./reward_client.ts";

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
    [gives({ gradients: [] }), /odd answered no gradient, expected one$/],
    [
      gives({ gradients: [gradient(new Float32Array(12))] }),
      /odd answered a gradient of shape \[1,3,2,2\], expected \[2,3,2,2\]$/,
    ],
    [
      gives({ gradients: [{ ...gradient(new Float32Array(24)), shape: [1, 1] }] }),
      /odd answered a gradient of shape \[1,1\], expected \[2,3,2,2\]$/,
    ],
    [
      gives({ gradients: [{ ...gradient(new Float32Array(24)), dtype: DataType.FLOAT16 }] }),
      /odd answered a gradient of FLOAT16, expected FLOAT32$/,
    ],
    [
      gives({ gradients: [{ ...gradient(new Float32Array(24)), data: new Uint8Array(95) }] }),
      /odd answered 95 bytes of gradient, expected 96$/,
    ],
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

Deno.test("What each status of a reward means for a run: it waits, or ends", async () => {
  const waits = [
    ...["CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "NOT_FOUND", "RESOURCE_EXHAUSTED"],
    ...["FAILED_PRECONDITION", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"],
  ];
  const ends = [
    ...["INVALID_ARGUMENT", "ALREADY_EXISTS", "PERMISSION_DENIED", "OUT_OF_RANGE"],
    ...["UNIMPLEMENTED", "UNAUTHENTICATED"],
  ];
  const names = Object.keys(MEANINGS).filter((name): name is StatusName => name in MEANINGS);
  assert.deepEqual(names.toSorted(), [...waits, ...ends].sort());
  for (const name of names) {
    await withReward(() => Promise.reject(new StatusError(name, "Told so")), async (term) => {
      await assert.rejects(evaluated(term, 300), (error) => {
        assert.equal(error instanceof RewardUnavailableError, waits.includes(name), name);
        return true;
      });
    });
  }
});

Deno.test("Weights that change under a client are known by their digest, direction and prompts", async () => {
  const asked: (readonly string[])[] = [];
  let present = { name: "odd", digest: "0a", direction: Direction.MAXIMISE, readsPrompt: false };
  const server = await startGrpcServer({
    services: [grpcService(RewardService, {
      describe: () =>
        Promise.resolve({
          rewards: [{ ...present, limits: { maxImages: 1 } }],
          defaultReward: "odd",
        }),
      score: () => Promise.reject(new StatusError("UNIMPLEMENTED", "Not part of this test")),
      scoreAndGradient: ({ prompts }) => {
        asked.push(prompts);
        const { digest, name: reward } = present;
        const gradients = [gradient(new Float32Array(12).fill(0.25))];
        const answer = { scores: [2], gradients, reward, digest };
        // Between the two parts of the second batch.
        if (asked.length === 3) {
          present = { ...present, digest: "0b", direction: Direction.MINIMISE, readsPrompt: true };
        }
        return Promise.resolve(answer);
      },
      evaluate: async function* () {},
    })],
    port: 0,
    log: createLogger({ level: "silent" }),
  });
  const term = { name: "odd", endpoint: server.address, reward: "", weight: 1, expectedDigest: "" };
  const client = await connectReward(term);
  try {
    const mixture = new RewardMixture([{ term, client }]);
    const first = await mixture.evaluate(images, prompts);
    assert.deepEqual([first.loss, first.rewards.odd?.digest], [-2, "0a"]);
    const second = await mixture.evaluate(images, prompts);
    // One part each by both weights is no answer: the batch is asked for again, with prompts now.
    assert.deepEqual([second.loss, second.rewards.odd?.digest], [2, "0b"]);
    assert.deepEqual(asked.slice(2), [[], [], ["a fox"], ["books"]]);
    assert.deepEqual([client.digest, client.direction], ["0b", "minimise"]);
  } finally {
    await client.close();
    await server.stop({ drainSeconds: 0.1 });
  }
});

Deno.test("A connection ends with its caller, and those made beside one that fails are closed", async () => {
  // Takes connections and never says a word.
  const silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const taken: Deno.Conn[] = [];
  const taking = (async () => {
    for await (const connection of silent) taken.push(connection);
  })().catch(() => {});
  const { port } = silent.addr;
  const term = {
    ...{ name: "odd", endpoint: `127.0.0.1:${port}` },
    ...{ reward: "", weight: 1, expectedDigest: "" },
  };
  const abort = new AbortController();
  const connecting = connectReward(term, { signal: abort.signal });
  const reason = new Error("The caller has gone");
  abort.abort(reason);
  await assert.rejects(connecting, reason);
  silent.close();
  for (const connection of taken) connection.close();
  await taking;

  const closed: string[] = [];
  const late = Promise.withResolvers<void>();
  const connect = async ({ name }: RewardTerm): Promise<RewardClient> => {
    if (name === "fails") throw new RewardUnavailableError("Is away");
    if (name === "late") await late.promise;
    return {
      direction: "maximise",
      digest: "",
      score: () => Promise.reject(new Error("Not asked")),
      close: () => Promise.resolve(void closed.push(name)),
    };
  };
  const terms = ["first", "fails", "late"].map((name) => ({ ...term, name }));
  await assert.rejects(connectAll(terms, connect), /Is away/);
  late.resolve();
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(closed, ["first", "late"]);
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
