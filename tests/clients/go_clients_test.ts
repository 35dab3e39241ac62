import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { findClient } from "../../tools/mod.ts";
import { run, testServer } from "./_server.ts";

const CLIP = {
  kind: "clip",
  weights: fileURLToPath(new URL("../../zoo/rewards/clip", import.meta.url)),
};
const SERVICE = "drtune.reward.v1.RewardService";

/** A request for one image, as protobuf's JSON has it. */
function request(reward: string, side: number): string {
  const data = Float32Array.from({ length: 3 * side * side }, (_, i) => (i * 37 % 101) / 101);
  const value = {
    dtype: "DATA_TYPE_FLOAT32",
    shape: [3, side, side],
    data: new Uint8Array(data.buffer).toBase64(),
  };
  return JSON.stringify({ reward, images: [{ tensor: value }], prompts: ["a fox, and books"] });
}

const grpcurl = findClient("grpcurl") ?? "";
Deno.test({ name: "grpcurl lists, describes and calls", ignore: grpcurl === "" }, async () => {
  const server = await testServer([{ kind: "symmetry" }, CLIP]);
  const { address } = server;
  try {
    const call = async (...args: string[]) => {
      const { code, stdout, stderr } = await run(grpcurl, ["-plaintext", ...args]);
      assert.equal(code, 0, stderr);
      return stdout;
    };
    const services = await call(address, "list");
    for (const name of [SERVICE, "inference.GRPCInferenceService", "grpc.health.v1.Health"]) {
      assert.ok(services.split("\n").includes(name), services);
    }
    assert.match(await call(address, "describe", SERVICE), /rpc ScoreAndGradient/);
    const described = JSON.parse(await call(address, `${SERVICE}/Describe`));
    const [clip, symmetry] = described.rewards;
    assert.equal(clip.readsPrompt, true);
    assert.equal(symmetry.direction, "DIRECTION_MINIMISE");
    assert.ok(clip.selfCheck.relativeError < 0.03);
    const answer = JSON.parse(
      await call("-d", request("clip", 24), address, `${SERVICE}/ScoreAndGradient`),
    );
    assert.equal(answer.digest, clip.digest);
    const gradient = Uint8Array.fromBase64(answer.gradients[0].data);
    assert.equal(gradient.length, 4 * 3 * 24 * 24);
    const refused = await run(grpcurl, ["-plaintext", "-d", "{}", address, `${SERVICE}/Score`]);
    assert.match(refused.stderr, /Reward is not named; there are clip, symmetry/);
    const health = await call(
      "-d",
      `{"service":"${SERVICE}/clip"}`,
      address,
      "grpc.health.v1.Health/Check",
    );
    assert.deepEqual(JSON.parse(health), { status: "SERVING" });
  } finally {
    await server.stop();
  }
});

const probe = findClient("grpc-health-probe") ?? findClient("grpc_health_probe") ?? "";
Deno.test({ name: "grpc_health_probe sees each reward", ignore: probe === "" }, async () => {
  const server = await testServer([{ kind: "symmetry" }]);
  const ask = (service: string) => run(probe, [`-addr=${server.address}`, `-service=${service}`]);
  try {
    for (const service of ["", SERVICE, `${SERVICE}/symmetry`]) {
      const { code, stderr } = await ask(service);
      assert.equal(code, 0, stderr);
    }
    assert.notEqual((await ask(`${SERVICE}/none`)).code, 0);
  } finally {
    await server.stop();
  }
  assert.notEqual((await ask("")).code, 0);
});

const ghz = findClient("ghz") ?? "";
Deno.test({
  name: "ghz beyond capacity sees nothing but answers and full queues",
  ignore: ghz === "",
}, async () => {
  const server = await testServer([CLIP], {
    batching: { maxQueuedImages: 4 },
    limits: { maxImages: 4 },
  });
  try {
    const { code, stdout, stderr } = await run(ghz, [
      "--insecure",
      ...["--call", `${SERVICE}.ScoreAndGradient`, "--data", request("clip", 64)],
      ...["--concurrency", "16", "--total", "200", "--timeout", "60s", "--format", "json"],
      server.address,
    ]);
    assert.equal(code, 0, stderr);
    const { count, statusCodeDistribution } = JSON.parse(stdout);
    const { OK = 0, ResourceExhausted = 0, ...others } = statusCodeDistribution;
    assert.deepEqual(others, {});
    assert.equal(OK + ResourceExhausted, count);
    assert.equal(count, 200);
    // Sixteen at a time do not fit where five do: one runs, four wait.
    assert.ok(OK > 0 && ResourceExhausted > 0, stdout.slice(-500));
  } finally {
    await server.stop();
  }
});
