import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { TrainerService } from "../../proto/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { type CollectedSpan, OtlpCollector } from "./_otlp_collector.ts";
import { Service } from "./_service.ts";

const MODELS = fileURLToPath(new URL("../golden", import.meta.url));

Deno.test("A trace of one training step joins the trainer's phases and the reward's work; metrics count it", async () => {
  const runs = await Deno.makeTempDir();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => Deno.remove(runs, { recursive: true }));
  const collector = stack.use(new OtlpCollector());
  const [reward, trainer] = await Promise.all([
    Service.start("reward", ["--reward", "symmetry"], collector.environment("reward")),
    Service.start(
      "trainer",
      ["--models", MODELS, "--runs", runs, "--threads", "1", "--metrics-port", "0"],
      collector.environment("trainer"),
    ),
  ]);
  stack.use(reward);
  stack.use(trainer);
  const client = grpcClient(TrainerService, trainer.address);
  stack.defer(() => client.close());
  await client.startRun({
    runId: "traced",
    config: {
      model: "tiny-sd",
      sampler: { kind: "ddpm", steps: 2 },
      method: { name: "drtune", k: 1, m: 1 },
      lora: { rank: 2 },
      batch: { size: 2 },
      iterations: 2,
      prompts: { source: { case: "list", value: { prompts: ["a fox"] } } },
      rewards: [{ name: "symmetry", endpoint: reward.address }],
      latentHeight: 8,
      latentWidth: 8,
    },
  });

  const step = await collector.find(({ name, attributes }) =>
    name === "step" && attributes["drtune.step"] === 2
  );
  assert.deepEqual(step.parentSpanId, "");
  assert.equal(step.attributes["drtune.run"], "traced");
  const below = ({ spanId }: CollectedSpan, name: string) =>
    collector.find((span) => span.parentSpanId === spanId && span.name === name);
  const phases = [];
  for (const name of ["sample", "decode", "reward", "gradient", "update"]) {
    phases.push(await below(step, name));
  }
  for (const [i, phase] of phases.entries()) {
    assert.equal(phase.service, "trainer");
    assert.equal(phase.traceId, step.traceId);
    assert.ok(step.start <= phase.start && phase.start <= phase.end && phase.end <= step.end);
    assert.ok(i === 0 || (phases[i - 1]?.end ?? 0n) <= phase.start, phase.name);
  }
  // From process to process: the HTTP/2 request of the client, below it the server's call.
  const [, , asked] = phases;
  assert.ok(asked);
  const sent = await below(asked, "POST");
  assert.equal(sent.service, "trainer");
  const call = await below(sent, "drtune.reward.v1.RewardService/ScoreAndGradient");
  assert.deepEqual([call.service, call.traceId], ["reward", step.traceId]);
  await below(call, "queue");
  const computed = await below(call, "compute");
  assert.equal(computed.attributes["drtune.reward"], "symmetry");
  assert.equal(computed.attributes["drtune.images"], 2);
  // Its times are whole milliseconds.
  assert.ok(asked.start <= computed.start + 1_000_000n && computed.end <= asked.end);

  const text = await (await fetch(`http://${trainer.metricsAddress}/metrics`)).text();
  for (
    const line of [
      "drtune_trainer_iterations_total 2",
      "drtune_trainer_images_total 4",
      'drtune_rpc_requests_total{service="drtune.trainer.v1.TrainerService",method="StartRun",status="OK"} 1',
    ]
  ) assert.ok(text.split("\n").includes(line), `${line}\nin\n${text}`);
  for (const phase of ["sample", "decode", "reward", "gradient", "update"]) {
    assert.ok(text.includes(`\ndrtune_trainer_phase_seconds_total{phase="${phase}"} `), phase);
  }
});
