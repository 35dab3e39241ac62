import assert from "node:assert/strict";
import sharp from "sharp";
import { DataType, RewardAdmin, RewardService, RunState, TrainerService } from "../../proto/mod.ts";
import { grpcClient, StatusError, type StatusName } from "../../services/rpc/mod.ts";
import { CONFIG } from "../fault/mod.ts";
import { ADMIN_TOKEN, type SoakStack } from "./_stack.ts";

/** A run's iterations; its rewards are swapped after the second, and every fourth run is stopped and resumed. */
const ITERATIONS = 8;
/** Runs that are kept; older ones are deleted, so that there are as many at the end of an hour as at its beginning. */
const KEPT_RUNS = 4;
/** Longest a page stays open, in milliseconds. */
const PAGE_MS = 30_000;
const SIDE = 64;

/** What users of a stack do, each as a function that does it once and checks every answer. */
export interface Load extends Disposable {
  readonly lanes: Readonly<Record<string, (signal: AbortSignal) => Promise<void>>>;
}

/** Clients of a stack: by gRPC, by HTTP, as an administrator and as open pages. */
export async function mixedLoad(stack: SoakStack): Promise<Load> {
  const addressOf = (name: string) => stack.services.get(name)?.address ?? "";
  const trainer = grpcClient(TrainerService, addressOf("trainer"));
  const symmetry = grpcClient(RewardService, addressOf("symmetry"));
  const clip = grpcClient(RewardService, addressOf("clip"));
  const admin = grpcClient(RewardAdmin, stack.admin, { token: ADMIN_TOKEN });
  const png = await sharp({
    create: { width: SIDE, height: SIDE, channels: 3, background: "red" },
  }).png().toBuffer();
  const pixels = Float32Array.from({ length: 3 * SIDE * SIDE }, (_, i) => i % 251 / 250);
  const tensor = { dtype: DataType.FLOAT32, shape: [1, 3, SIDE, SIDE] };
  const data = new Uint8Array(pixels.buffer);
  const image = { source: { case: "encoded" as const, value: png } };

  /** Asks the gateway. Throws where its status is another one. */
  const http = async (path: string, options: RequestInit = {}, status = 200) => {
    const response = await fetch(`${stack.gateway}${path}`, options);
    if (response.status === status) return response;
    throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  };
  const read = async (path: string, options?: RequestInit) =>
    await (await http(path, options)).bytes();
  const postJson = (value: unknown): RequestInit => ({
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(value),
  });

  const kept: string[] = [];
  let runs = 0;
  const train = async (signal: AbortSignal) => {
    const runId = `soak-${runs++}`;
    const byHttp = runs % 2 === 0;
    const isStopped = runs % 4 === 0;
    const terms = ["symmetry", "clip"].map((name) => ({ name }));
    const config = {
      ...CONFIG,
      model: "tests/golden/tiny-sd",
      iterations: ITERATIONS,
      checkpointEvery: 4,
      rewards: terms,
    };
    if (byHttp) {
      const { prompts: { source: { value } }, ...rest } = config;
      await http(
        "/v1/runs",
        postJson({ runId, config: { ...rest, prompts: { list: value } } }),
        201,
      );
    } else await trainer.startRun({ runId, config });
    let seen = 0;
    /**
     * Follows it until it has ended and answers how, with the reason. What it has told before it was resumed is told
     * again, and nobody acts on it.
     */
    const follow = async () => {
      let state = RunState.UNSPECIFIED;
      let reason = "";
      for await (const { event } of trainer.watchRun({ runId }, { signal })) {
        if (event.case === "state") ({ state, reason } = event.value);
        if (event.case !== "step" || state !== RunState.RUNNING) continue;
        const { step } = event.value;
        if (step <= seen) continue;
        seen = step;
        if (step === 2) {
          const change = { case: "set" as const, value: { name: "clip", weight: 0.5 + runs % 2 } };
          await trainer.swapReward({ runId, change });
        }
        if (step === 3) await trainer.saveRun({ runId });
        if (step === 5 && isStopped) await trainer.stopRun({ runId });
      }
      return { state, reason };
    };
    let ended = await follow();
    if (isStopped && ended.state === RunState.STOPPED) {
      await trainer.resumeRun({ runId });
      ended = await follow();
    }
    if (ended.state !== RunState.FINISHED) {
      // It is listed, and deleted in its turn, as others are.
      kept.push(runId);
      throw new Error(`${runId} is ${RunState[ended.state]}: ${ended.reason}`);
    }

    let exported = 0;
    for await (const { part } of trainer.exportLora({ runId })) {
      if (part.case === "data") exported += part.value.length;
    }
    assert.equal((await read(`/v1/runs/${runId}/lora`)).length, exported);
    let shown = 0;
    for await (const { event } of trainer.watchRun({ runId })) {
      if (event.case !== "step") continue;
      for (const { path } of event.value.samples) {
        assert.ok((await read(`/v1/runs/${runId}/images/${path}`)).length > 0);
        shown++;
      }
    }
    assert.ok(shown > 0);
    for await (const { png } of trainer.sample({ runId, prompts: ["a red cat"] })) {
      assert.ok(png.length > 0);
    }
    kept.push(runId);
    for (const old of kept.splice(0, kept.length - KEPT_RUNS)) {
      if (byHttp) await http(`/v1/runs/${old}`, { method: "DELETE" });
      else await trainer.deleteRun({ runId: old });
    }
    const listed = (await trainer.listRuns({})).runs.map(({ id }) => id);
    assert.deepEqual(listed.sort(), kept.toSorted());
  };

  const score = async () => {
    const prompts = ["a red cat"];
    await clip.describe({});
    const { scores } = await clip.score({ images: [image], prompts });
    assert.ok(Number.isFinite(scores[0]));
    const one = { source: { case: "tensor" as const, value: { ...tensor, data } } };
    for (const client of [symmetry, clip]) {
      const { gradients } = await client.scoreAndGradient({ images: [one], prompts });
      assert.equal(gradients[0]?.data.length, data.length);
    }
    const requests = async function* () {
      for (let index = 0; index < 4; index++) yield { index, image, prompt: "a fox" };
    };
    let answers = 0;
    for await (const { result } of clip.evaluate(requests())) {
      assert.equal(result.case, "evaluation");
      answers++;
    }
    assert.equal(answers, 4);
  };

  const scoreByHttp = async () => {
    const form = new FormData();
    form.append("image", new Blob([new Uint8Array(png)]), "a.png");
    form.append("prompt", "a cat");
    await read("/v1/rewards/clip/score", { method: "POST", body: form });
    const base64 = new Uint8Array(png).toBase64();
    const body = postJson({ images: [{ encoded: base64 }], prompts: ["a cat"] });
    await read("/v1/rewards/symmetry/gradient", body);
  };

  let swaps = 0;
  const swap = async () => {
    const std = ["global", "channel"][swaps++ % 2] ?? "";
    const { reward } = await admin.loadReward({
      name: "symmetry",
      config: { kind: "symmetry", std },
    });
    assert.match(reward?.digest ?? "", /^[0-9a-f]{64}$/);
    const config = { kind: "clip", weights: "zoo/README.md" };
    await refused("FAILED_PRECONDITION", () => admin.loadReward({ name: "symmetry", config }));
    assert.equal((await admin.listRewards({})).rewards.length, 1);
  };

  const look = async () => {
    const paths = ["/", "/openapi.json", "/v1/runs", "/v1/services", "/v1/presets", "/metrics"];
    for (const path of [...paths, "/healthz", "/readyz"]) await read(path);
  };

  /** An open page: what it shows of all runs, and of one. */
  const page = async (signal: AbortSignal) => {
    const latest = kept.at(-1);
    const paths = ["/v1/overview", ...latest === undefined ? [] : [`/v1/runs/${latest}/events`]];
    const streams = await Promise.all(paths.map(async (path) => {
      const { body } = await http(path);
      return body?.getReader() ?? assert.fail(`${path} has no body`);
    }));
    const close = () => streams.forEach((stream) => void stream.cancel());
    const timer = setTimeout(close, PAGE_MS);
    signal.addEventListener("abort", close);
    try {
      await Promise.all(streams.map(async (stream) => {
        assert.ok(!(await stream.read()).done);
        while (!(await stream.read()).done);
      }));
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", close);
    }
  };

  const refusals = async () => {
    await refused("NOT_FOUND", () => trainer.getRun({ runId: "nobody" }));
    await refused("INVALID_ARGUMENT", () => trainer.startRun({ runId: "x", config: { seed: 1 } }));
    const short = {
      source: { case: "tensor" as const, value: { ...tensor, data: data.slice(4) } },
    };
    await refused("INVALID_ARGUMENT", () => symmetry.score({ images: [short] }));
    await refused("UNAUTHENTICATED", async () => {
      const stranger = grpcClient(RewardAdmin, stack.admin);
      try {
        await stranger.listRewards({});
      } finally {
        stranger.close();
      }
    });
    const broken = { method: "POST", headers: { "content-type": "application/json" }, body: "{" };
    await (await http("/v1/runs", broken, 400)).bytes();
    await (await http("/v1/runs/nobody", {}, 404)).bytes();
  };

  return {
    lanes: { train, score, scoreByHttp, swap, look, page, refusals },
    [Symbol.dispose]() {
      for (const client of [trainer, symmetry, clip, admin]) client.close();
    },
  };
}

/** Asks for what must be refused with a status. */
async function refused(status: StatusName, ask: () => Promise<unknown>): Promise<void> {
  await assert.rejects(ask, (error) => {
    if (error instanceof StatusError && error.status === status) return true;
    throw error;
  });
}
