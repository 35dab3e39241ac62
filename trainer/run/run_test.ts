import assert from "node:assert/strict";
import {
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { float32 } from "../../autodiff/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { fakeModel } from "../testing/fake_networks.ts";
import { FakeReward } from "../testing/fake_reward.ts";
import {
  CONFIG,
  finish,
  inFolder,
  isState,
  isStep,
  result,
  undisturbed,
  until,
  world,
} from "../testing/run_world.ts";
import {
  newestCheckpoint,
  readCheckpoint,
  readProvenance,
  RunConflictError,
  type RunDependencies,
  type RunEvent,
  RunStateError,
  RunStore,
  type StepEvent,
  type TrainingRun,
  UnknownRunError,
} from "./mod.ts";

Deno.test("the estimate is in the folder before the first iteration, what it took after it; a resumed run keeps it", async () => {
  await inFolder(async (root) => {
    const phase = { name: "text", runs: 1, pieces: 1, bytes: 2, flops: 3, seconds: 4 } as const;
    const estimated = { phases: [phase], bytes: 2 ** 30, adapterBytes: 6, secondsPerIteration: 4 };
    let estimates = 0;
    const report = async (): Promise<unknown> =>
      JSON.parse(await readFile(join(root, "run", "plan.json"), "utf8"));
    const seen: unknown[] = [];
    const reward = new FakeReward(0.2);
    reward.onCall = async () => {
      seen.push(await report());
      if (seen.length === 3) throw new TypeError("This run ends here");
    };
    const store = await RunStore.open(root, {
      ...world({ dark: reward }),
      openModel: () =>
        Promise.resolve({
          ...fakeModel(),
          plan: () => Promise.resolve({ ...estimated, secondsPerIteration: 4 + estimates++ }),
          peakMemory: () => Promise.resolve(3 * 2 ** 29),
        }),
    });
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0 });
    await until(run);
    assert.equal(run.state, "failed");
    await store.resume("run");
    await until(run);
    await store.close();
    assert.equal(run.state, "finished");
    assert.partialDeepStrictEqual(await report(), { estimated });
    assert.equal(estimates, 1);
    assert.deepEqual(seen[0], { estimated, measured: { iterations: 0 }, ratio: {} });
    assert.partialDeepStrictEqual(seen[2], {
      estimated,
      measured: { bytes: 3 * 2 ** 29, iterations: 1 },
      ratio: { bytes: 1.5 },
    });
  });
});

Deno.test("a run trains, and its folder says all there is to say", async () => {
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world({ dark: new FakeReward(0.2) }));
    const { run, created } = await store.start("run", CONFIG);
    assert.ok(created);
    await until(run);
    assert.equal(run.state, "finished");
    assert.deepEqual(run.checkpoints, [4, 8, 9]);
    const steps = run.log.events.filter((e): e is StepEvent => e.type === "step");
    assert.deepEqual(steps.map((e) => e.step), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (const { step, loss, rewards, prompts, plans, gradNorm, seconds } of steps.slice(1)) {
      // A reward to be minimised is the loss itself.
      assert.ok(Math.abs(loss - (rewards.dark?.mean ?? NaN)) < 1e-12, `step ${step}`);
      assert.equal(rewards.dark?.perImage.length, 2);
      assert.equal(rewards.dark.digest, "0.2");
      assert.equal(prompts.length, 2);
      assert.ok(plans[0] && plans[0].tMin >= 1 && plans[0].tMin <= 3);
      assert.ok(gradNorm > 0);
      assert.ok(
        ["sample", "decode", "reward", "gradient", "update", "total"].every((p) => p in seconds),
      );
    }
    // What is left takes as long as the median of the iterations so far; the last has nothing left.
    const totals = steps.slice(1).map(({ seconds }) => seconds.total ?? NaN);
    for (const { step, secondsLeft } of steps.slice(1)) {
      const sorted = totals.slice(0, step).sort((a, b) => a - b);
      assert.equal(secondsLeft, (sorted[Math.floor(step / 2)] ?? NaN) * (9 - step));
    }
    assert.equal(steps.at(-1)?.secondsLeft, 0);
    // Every prompt is seen twice in six images.
    const seen = steps.slice(1, 4).flatMap((e) => e.prompts).sort();
    assert.deepEqual(seen, CONFIG.prompts.flatMap((p) => [p, p]).sort());
    const shown = steps.filter((e) => e.samples.length > 0);
    assert.deepEqual(shown.map((e) => e.step), [0, 4, 8]);
    for (const { path, rewards } of shown.flatMap((e) => e.samples)) {
      const { width, height } = await sharp(join(run.folder.path, path)).metadata();
      assert.deepEqual([width, height], [2, 2]);
      assert.ok((rewards.dark ?? NaN) > 0);
    }
    // An iteration before samples keeps its own images, one for each of its rewards.
    assert.deepEqual(steps.filter((e) => e.images !== undefined).map((e) => e.step), [4, 8]);
    for (const { images = [], rewards } of shown.slice(1)) {
      assert.equal(images.length, rewards.dark?.perImage.length);
      for (const path of images) {
        assert.equal((await sharp(join(run.folder.path, path)).metadata()).format, "jpeg");
      }
    }
    const meanOf = (e?: StepEvent) =>
      e?.samples.reduce((sum, s) => sum + (s.rewards.dark ?? NaN), 0);
    assert.ok(
      (meanOf(shown.at(-1)) ?? NaN) < 0.9 * (meanOf(shown[0]) ?? NaN),
      "nothing was learnt",
    );
    await store.close();

    const again = await RunStore.open(root, world({}));
    assert.deepEqual(again.get("run").log.events, run.log.events);
    assert.deepEqual(again.get("run").config, run.config);
    assert.deepEqual(again.get("run").checkpoints, run.checkpoints);
    const replayed = await until(again.get("run"));
    assert.deepEqual(replayed, [run.log.lastState, ...run.log.events]);
    const part: RunEvent[] = [];
    for await (const event of again.get("run").log.watch(8)) part.push(event);
    assert.ok(part.every((e) => e.step >= 8) && part.length < 8);
    assert.deepEqual(part[0], run.log.lastState);
    await again.close();
  });
});

Deno.test("what there is to say of a run's prompts is said when it starts to run", async () => {
  await inFolder(async (root) => {
    const asked: string[][] = [];
    const opened = fakeModel();
    const prompts = {
      encode: opened.model.prompts.encode.bind(opened.model.prompts),
      remark: (texts: readonly string[]) => {
        asked.push([...texts]);
        return "One is cut";
      },
    };
    const store = await RunStore.open(root, {
      ...world({ dark: new FakeReward(0.2) }),
      openModel: () => Promise.resolve({ ...opened, model: { ...opened.model, prompts } }),
    });
    const { run } = await store.start("run", { ...CONFIG, iterations: 1 });
    await until(run);
    await store.close();
    assert.deepEqual(asked, [[...CONFIG.prompts, ...CONFIG.heldOutPrompts]]);
    const states = run.log.events.flatMap((e) => e.type === "state" ? [[e.state, e.reason]] : []);
    assert.deepEqual(states.slice(0, 3), [["queued", ""], ["running", ""], [
      "running",
      "One is cut",
    ]]);
    assert.equal(run.state, "finished");
  });
});

Deno.test("killed at any instant, a run ends with the same bytes", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const snapshots: string[] = [];
    const reward = new FakeReward(0.2);
    // What the disk holds while a reward is asked is what a kill at that instant leaves.
    reward.onCall = async () => {
      const copy = join(root, `killed-${snapshots.length}`);
      snapshots.push(copy);
      await cp(join(root, "live"), copy, { recursive: true });
    };
    await mkdir(join(root, "live"));
    const store = await RunStore.open(join(root, "live"), world({ dark: reward }));
    await until((await store.start("run", CONFIG)).run);
    await store.close();
    assert.equal(await result(join(root, "live")), expected);
    assert.ok(snapshots.length >= 12);
    for (const [i, snapshot] of snapshots.entries()) {
      if (i % 3 === 1) {
        // Killed in the middle of a line.
        const log = join(snapshot, "run", "events.jsonl");
        await truncate(log, (await readFile(log)).length - 5);
      }
      const run = await finish(snapshot, { dark: new FakeReward(0.2) });
      assert.equal(await result(snapshot), expected, `killed at call ${i}`);
      const steps = run.log.events.flatMap((e) => e.type === "step" ? e.step : []);
      assert.deepEqual(steps, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
  });
});

Deno.test("a damaged checkpoint is moved aside, an older one serves, and what interrupted attempts left is removed", async () => {
  const expected = await undisturbed(10);
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world({ dark: new FakeReward(0.2) }));
    await until((await store.start("run", CONFIG)).run);
    await store.close();
    const checkpoints = join(root, "run", "checkpoints");
    for (const step of ["000009", "000008"]) {
      const file = join(checkpoints, `step-${step}`, "lora.safetensors");
      const bytes = await readFile(file);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      await writeFile(file, bytes);
    }
    await assert.rejects(
      readCheckpoint(checkpoints, 9),
      /lora\.safetensors has sha256 .*, expected/,
    );
    assert.equal((await newestCheckpoint(checkpoints))?.checkpoint.step, 4);
    await cp(join(checkpoints, "step-000004"), join(checkpoints, ".attempt-x"), {
      recursive: true,
    });
    const again = await RunStore.open(root, world({ dark: new FakeReward(0.2) }));
    await again.resume("run", 10);
    await until(again.get("run"));
    await again.close();
    assert.deepEqual((await readdir(checkpoints)).sort(), [
      "damaged-step-000008-1",
      "damaged-step-000009-1",
      "step-000004",
      "step-000008",
      "step-000010",
    ]);
    assert.equal(await result(root, { step: 10 }), expected);
  });
});

Deno.test("stopped and resumed, a run ends with the same bytes", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const dependencies = world({ dark: new FakeReward(0.2) });
    const store = await RunStore.open(root, dependencies);
    const { run } = await store.start("run", CONFIG);
    await until(run, isStep(2));
    await run.stop();
    await until(run);
    assert.equal(run.state, "stopped");
    assert.equal(run.checkpoints.at(-1), run.step);
    await store.resume("run");
    await until(run, isStep(6));
    // The server ends; the run is to go on.
    await store.close();
    assert.equal(run.state, "queued");
    await finish(root, { dark: new FakeReward(0.2) });
    assert.equal(await result(root), expected);
  });
});

Deno.test("more iterations are remembered", async () => {
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world({ dark: new FakeReward(0.2) }));
    const { run } = await store.start("run", { ...CONFIG, iterations: 2 });
    await until(run);
    await assert.rejects(store.resume("run"), RunStateError);
    await store.resume("run", 4);
    await until(run, isStep(3));
    await store.close();
    assert.equal((await finish(root, { dark: new FakeReward(0.2) })).step, 4);
  });
});

Deno.test("a run waits for a reward that is away, and ends with the same bytes", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    const store = await RunStore.open(root, world({ dark: reward }));
    const { run } = await store.start("run", CONFIG);
    await until(run, isStep(5));
    reward.isAway = true;
    await until(run, isState("paused"));
    assert.equal(run.log.lastState?.reason, "The fake reward is away");
    reward.isAway = false;
    await until(run);
    await store.close();
    assert.equal(await result(root), expected);
    const states = run.log.events.flatMap((e) => e.type === "state" ? e.state : []);
    assert.deepEqual(states, ["queued", "running", "paused", "running", "finished"]);
  });
});

Deno.test("a run that waits can be stopped, and given another reward", async () => {
  await inFolder(async (root) => {
    const [gone, other] = [new FakeReward(0.2), new FakeReward(0.8)];
    const store = await RunStore.open(root, world({ dark: gone, bright: other }));
    const { run } = await store.start("run", CONFIG);
    await until(run, isStep(5));
    gone.isAway = true;
    await until(run, isState("paused"));
    await run.stop();
    await until(run);
    assert.equal(run.state, "stopped");
    const step = run.step;
    assert.equal(run.checkpoints.at(-1), step);

    await store.resume("run");
    await until(run, (e) => isState("paused")(e) && run.state === "paused");
    const bright = {
      name: "bright",
      endpoint: "bright",
      reward: "",
      weight: 1,
      expectedDigest: "",
    };
    await assert.rejects(run.swap([{ ...bright, endpoint: "nowhere" }]), /No reward nowhere/);
    assert.equal(await run.swap([bright]), step);
    await until(run);
    assert.equal(run.state, "finished");
    assert.deepEqual(Object.keys(run.log.latest?.rewards ?? {}), ["bright"]);
    assert.deepEqual(run.rewards, [bright]);
    const last = await result(root);
    // The old reward is not needed again.
    for (const s of run.checkpoints.filter((c) => c > step)) {
      await rm(join(root, "run", "checkpoints", `step-${String(s).padStart(6, "0")}`), {
        recursive: true,
      });
    }
    await store.close();
    const log = join(root, "run", "events.jsonl");
    const lines = (await readFile(log, "utf8")).split("\n");
    await writeFile(log, lines.filter((l) => !l.includes('"finished"')).join("\n"));
    await finish(root, { bright: new FakeReward(0.8) });
    assert.equal(await result(root), last);
  });
});

Deno.test("a swap takes effect between iterations, with a checkpoint there", async () => {
  await inFolder(async (root) => {
    const [dark, bright] = [new FakeReward(0.2), new FakeReward(0.8)];
    const store = await RunStore.open(root, world({ dark, bright }));
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0 });
    let swapped: Promise<number> | undefined;
    dark.onCall = () => {
      if (run.step === 5) {
        swapped ??= run.swap([
          { name: "bright", endpoint: "bright", reward: "", weight: 2, expectedDigest: "" },
        ]);
      }
    };
    await until(run);
    await store.close();
    assert.equal(await swapped, 6);
    const used = run.log.events.flatMap((e) => e.type === "step" ? Object.keys(e.rewards) : []);
    assert.deepEqual(used, [...new Array(6).fill("dark"), ...new Array(3).fill("bright")]);
    assert.deepEqual(run.checkpoints, [4, 6, 8, 9]);
    const provenance = await readProvenance(run.folder.checkpoints, 9);
    assert.match(provenance["drtune.rewards"] ?? "", /"name":"bright","weight":2,"sha256":"0\.8"/);
    assert.equal(provenance["drtune.base_model_sha256"], "fake");
  });
});

Deno.test("a save is a checkpoint at the next step boundary, through a kill too", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const [live, killed] = [join(root, "live"), join(root, "killed")];
    await mkdir(live);
    const reward = new FakeReward(0.2);
    const store = await RunStore.open(live, world({ dark: reward }));
    const saved: number[] = [];
    reward.onCall = async () => {
      const run = store.get("run");
      if (run.step === 5) {
        saved.push(await run.save());
        await cp(live, killed, { recursive: true });
      }
      if (run.step === 0 || run.step === 7) saved.push(await run.save());
    };
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0 });
    const { run: second } = await store.start("second", CONFIG);
    await assert.rejects(second.save(), /Run "second" is queued: there is nothing to save/);
    await second.stop();
    await until(run);
    assert.deepEqual(saved, [1, 6, 8]);
    assert.deepEqual(run.checkpoints, [1, 4, 6, 8, 9]);
    const kinds = run.log.events.flatMap((e) => e.step === 6 ? e.type : []);
    assert.deepEqual(kinds, ["save", "step", "checkpoint"]);
    await assert.rejects(run.save(), RunStateError);
    await store.close();
    assert.equal(await result(live), expected);
    const again = await finish(killed, { dark: new FakeReward(0.2) });
    assert.deepEqual(again.checkpoints, [1, 4, 6, 8, 9]);
    assert.equal(await result(killed), expected);
  });
});

Deno.test("a run that waits is saved as it is, and what was asked for counts from there", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    const store = await RunStore.open(root, world({ dark: reward }));
    const { run } = await store.start("run", CONFIG);
    await until(run, isStep(5));
    reward.isAway = true;
    await until(run, isState("paused"));
    const step = run.step;
    assert.equal(await run.save(), step);
    await until(run, (e) => e.type === "checkpoint" && e.step === step);
    await until(run, (e) => isState("paused")(e) && run.state === "paused");
    // The reward comes back with the answer to a try that was on its way.
    let asked: Promise<number> | undefined;
    reward.onCall = () => {
      asked ??= run.swap([{ ...run.config.rewards[0] ?? assert.fail(), weight: 2 }]);
      reward.isAway = false;
    };
    await until(run);
    await store.close();
    assert.equal(await asked, step);
    const weighted = run.log.events.flatMap((e) => {
      const mean = e.type === "step" ? e.rewards.dark?.mean : undefined;
      return e.type === "step" && mean !== undefined ? [[e.step, Math.round(e.loss / mean)]] : [];
    });
    assert.deepEqual(weighted.filter(([s = 0, w]) => w !== (s > step ? 2 : 1)), []);
    assert.notEqual(await result(root), expected);
  });
});

Deno.test("a run waits for a reward that answers nonsense, and says which tensor", async () => {
  const expected = await undisturbed();
  const wrong: [(answer: { scores: Float32Array; gradient: Float32Tensor }) => void, RegExp][] = [
    [
      ({ gradient }) => gradient.data[5] = NaN,
      /'gradient of reward dark' holds NaN at \[0, 1, 0, 1\]/,
    ],
    [({ scores }) => scores[1] = Infinity, /'scores of reward dark' holds Infinity at \[1\]/],
    [(answer) => answer.gradient = float32([1]), /Reward dark answered a gradient of shape \[1\]/],
    [(answer) => answer.scores = answer.scores.slice(1), /Reward dark answered 1 scores for 2/],
  ];
  for (const [spoil, reason] of wrong) {
    await inFolder(async (root) => {
      const reward = new FakeReward(0.2);
      const store = await RunStore.open(root, world({ dark: reward }));
      const { run } = await store.start("run", CONFIG);
      await until(run, isStep(2));
      const honest = reward.score.bind(reward);
      reward.score = async (...args) => {
        const answer = await honest(...args);
        spoil(answer);
        return answer;
      };
      await until(run, isState("paused"));
      assert.match(run.log.lastState?.reason ?? "", reason);
      reward.score = honest;
      await until(run);
      assert.equal(run.state, "finished", String(run.log.lastState?.reason));
      await store.close();
      assert.equal(await result(root), expected);
    });
  }
});

Deno.test("NaN and a full disk end a run with the reason, and what was done is kept", async () => {
  await inFolder(async (root) => {
    const model = fakeModel();
    const { adapt } = model.model;
    let isSpoilt = false;
    const store = await RunStore.open(root, {
      ...world({ dark: new FakeReward(0.2) }),
      openModel: () =>
        Promise.resolve({
          ...model,
          model: {
            ...model.model,
            adapt: async (...args) => {
              const denoiser = await adapt(...args);
              return {
                ...denoiser,
                vjp: async (...rows) => {
                  const gradients = await denoiser.vjp(...rows);
                  if (isSpoilt) gradients.parameters.w?.data.fill(NaN, 1);
                  return gradients;
                },
              };
            },
          },
        }),
    });
    const { run } = await store.start("run", CONFIG);
    await until(run, isStep(2));
    isSpoilt = true;
    await until(run);
    assert.equal(run.state, "failed");
    assert.match(run.log.lastState?.reason ?? "", /'grad_main\.w' holds NaN at \[1\]/);
    assert.equal(run.checkpoints.at(-1), run.step);
    isSpoilt = false;
    await store.resume("run");
    await until(run);
    assert.equal(run.state, "finished");
    await store.close();
    assert.equal(await result(root), await undisturbed());
  });
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    const store = await RunStore.open(root, world({ dark: reward }));
    const { run } = await store.start("run", CONFIG);
    const log = join(root, "run", "events.jsonl");
    let good = "";
    // While the run waits for an answer nothing else writes.
    reward.onCall = async () => {
      if (run.step !== 5 || good !== "") return;
      good = await readFile(log, "utf8");
      await rm(log);
      await symlink("/dev/full", log);
    };
    await until(run);
    assert.equal(run.state, "failed");
    assert.match(run.log.lastState?.reason ?? "", /ENOSPC|No space left/i);
    await store.close();
    await rm(log);
    await writeFile(log, good);
    await finish(root, { dark: new FakeReward(0.2) });
    assert.equal(await result(root), await undisturbed());
  });
});

Deno.test("a store starts a run once, and refuses what its state does not allow", async () => {
  await inFolder(async (root) => {
    const dependencies = world({ dark: new FakeReward(0.2) });
    const store = await RunStore.open(root, dependencies);
    await assert.rejects(RunStore.open(root, dependencies), /is in use by another trainer/);
    const [first, second] = await Promise.all([store.start("a", CONFIG), store.start("a", CONFIG)]);
    assert.equal(first.run, second.run);
    assert.deepEqual([first.created, second.created], [true, false]);
    await assert.rejects(store.start("a", { ...CONFIG, seed: 8 }), RunConflictError);
    await assert.rejects(store.start("../a", CONFIG), /Field runId is "\.\.\/a", expected 1 to 64/);
    assert.throws(() => store.get("b"), UnknownRunError);
    await assert.rejects(store.delete("a"), RunStateError);
    await store.start("c", CONFIG);
    await store.get("c").stop();
    assert.equal(store.get("c").state, "stopped");
    await until(first.run);
    await store.delete("a");
    await store.close();
    await writeFile(join(root, "c", "config.json"), '{"createdAt": "", "config": {"seed": -1}}');
    const again = await RunStore.open(root, dependencies);
    assert.deepEqual(again.list(), []);
    assert.match(again.unreadable.get("c") ?? "", /Field .* of .*config\.json/);
    await assert.rejects(again.start("c", CONFIG), RunConflictError);
    await again.close();
  });
});

Deno.test("a checkpoint that cannot be written ends a run, with the last one whole", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    const store = await RunStore.open(root, world({ dark: reward }));
    const { run } = await store.start("run", CONFIG);
    const [checkpoints, aside] = [run.folder.checkpoints, join(root, "aside")];
    reward.onCall = async () => {
      if (run.step !== 5) return;
      await rename(checkpoints, aside);
      await writeFile(checkpoints, "");
      reward.onCall = () => {};
    };
    await until(run);
    assert.equal(run.state, "failed");
    assert.match(run.log.lastState?.reason ?? "", /checkpoints/);
    assert.equal((await newestCheckpoint(aside))?.checkpoint.step, 4);
    // A folder that cannot be read is no empty one: the run does not begin anew.
    await store.resume("run");
    await until(run);
    assert.equal(run.state, "failed");
    assert.equal(run.log.latest?.step, 8);
    await rm(checkpoints);
    await rename(aside, checkpoints);
    await store.resume("run");
    await until(run);
    assert.equal(run.state, "finished");
    await store.close();
    assert.equal(await result(root), expected);
  });
});

Deno.test("a run killed while it stopped is stopped, and goes on with the same bytes", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    const [live, killed] = [join(root, "live"), join(root, "killed")];
    await mkdir(live);
    const store = await RunStore.open(live, world({ dark: reward }));
    const { run } = await store.start("run", CONFIG);
    reward.onCall = async () => {
      if (run.step !== 6) return;
      await run.stop();
      await cp(live, killed, { recursive: true });
    };
    await until(run);
    assert.deepEqual([run.state, run.step], ["stopped", 7]);
    await store.close();
    const again = await RunStore.open(killed, world({ dark: new FakeReward(0.2) }));
    const { state, checkpoints } = again.get("run");
    assert.deepEqual([state, checkpoints], ["stopped", [4]]);
    await again.resume("run");
    await until(again.get("run"));
    await again.close();
    assert.equal(await result(killed), expected);
  });
});

Deno.test("a swap is kept through a kill, and when it comes while the log is rewritten", async () => {
  await inFolder(async (root) => {
    const [dark, bright] = [new FakeReward(0.2), new FakeReward(0.8)];
    const terms = [
      { name: "bright", endpoint: "bright", reward: "", weight: 1, expectedDigest: "" },
    ];
    const [live, killed] = [join(root, "live"), join(root, "killed")];
    await mkdir(live);
    const store = await RunStore.open(live, world({ dark, bright }));
    const { run } = await store.start("run", CONFIG);
    dark.onCall = async () => {
      if (run.step !== 5) return;
      assert.equal(await run.swap(terms), 6);
      await cp(live, killed, { recursive: true });
      dark.onCall = () => {};
    };
    await until(run);
    await store.close();
    await finish(killed, { dark: new FakeReward(0.2), bright });
    assert.equal(await result(killed), await result(live));

    const again = await RunStore.open(live, world({ dark, bright }));
    const resumed = again.get("run");
    const rewrite = resumed.folder.rewrite.bind(resumed.folder);
    let swapped: Promise<number> | undefined;
    resumed.folder.rewrite = async (events) => {
      const done = rewrite(events);
      swapped ??= resumed.swap([{ ...terms[0] ?? assert.fail(), weight: 3 }]);
      await done;
    };
    await again.resume("run", 10);
    await until(resumed);
    assert.equal(await swapped, 9);
    assert.equal(resumed.rewards[0]?.weight, 3);
    await again.close();
    assert.deepEqual(await resumed.folder.events(), resumed.log.events);
  });
});

Deno.test("a log keeps its history: a line cut short is removed, a damaged one refused", async () => {
  await inFolder(async (root) => {
    const dependencies = world({ dark: new FakeReward(0.2) });
    const store = await RunStore.open(root, dependencies);
    const { run } = await store.start("run", { ...CONFIG, iterations: 3 });
    await until(run);
    await store.close();
    const log = join(root, "run", "events.jsonl");
    const good = await readFile(log, "utf8");
    await writeFile(log, `${good}{"type":"sta`);
    assert.deepEqual(await run.folder.events(), run.log.events);
    // The same lines, their keys in another order.
    assert.equal((await readFile(log, "utf8")).length, good.length);
    assert.deepEqual(await run.folder.events(), run.log.events);
    const damaged = good.replace('"type":"step","step":2', '"type":"step","step":-2');
    assert.notEqual(damaged, good);
    await writeFile(log, damaged);
    const again = await RunStore.open(root, dependencies);
    assert.match(again.unreadable.get("run") ?? "", /Line 5 of .*events\.jsonl/);
    await again.close();
    assert.equal(await readFile(log, "utf8"), damaged);
    // A run that cannot go on does not keep the others from it.
    await rm(log);
    await symlink(join(root, "nowhere", "log"), log);
    await cp(join(root, "run", "config.json"), join(root, "good", "config.json"));
    await writeFile(join(root, "good", "events.jsonl"), `${good.split("\n")[0]}\n`);
    const third = await RunStore.open(root, dependencies);
    assert.match(third.unreadable.get("run") ?? "", /ENOENT/);
    await until(third.get("good"));
    await third.close();
    assert.equal(third.get("good").state, "finished");
  });
});

Deno.test("watchers see every event once, from a step on, until the end or an abort", async () => {
  await inFolder(async (root) => {
    const [reward, stop] = [new FakeReward(0.2), new AbortController()];
    const store = await RunStore.open(root, world({ dark: reward }));
    const { run } = await store.start("run", CONFIG);
    const aborted = (async () => {
      for await (const event of run.log.watch(0, stop.signal)) if (isStep(3)(event)) stop.abort();
    })();
    const seen = until(run);
    const late = (async () => {
      const states = [];
      for await (const e of run.log.watch(100)) states.push(e.type === "state" ? e.state : e.type);
      return states;
    })();
    const log = join(root, "run", "events.jsonl");
    reward.onCall = async () => {
      if (run.step !== 5) return;
      reward.onCall = () => {};
      // An event that is seen and then cannot be written is taken back; what follows is not missed.
      await rename(log, `${log}.aside`);
      await symlink(join(root, "nowhere", "log"), log);
      const swaps = [run.swap(run.rewards), run.swap(run.rewards)];
      for (const { status } of await Promise.allSettled(swaps)) assert.equal(status, "rejected");
      await rename(`${log}.aside`, log);
    };
    await assert.rejects(aborted, { name: "AbortError" });
    const events = await seen;
    assert.equal(run.state, "finished");
    // A run that ends before the step asked for is not kept secret.
    assert.equal((await late).at(-1), "finished");
    assert.ok(!(await late).includes("step"));
    // The present state may have come before them.
    const inOrder = events.filter((e) => e.type !== "swap");
    assert.deepEqual(inOrder.slice(-run.log.events.length), run.log.events);
    await store.close();
  });
});

Deno.test("changes of the mixture that are asked for at once are all made; after the end none is", async () => {
  await inFolder(async (root) => {
    const [dark, bright, late] = [new FakeReward(0.2), new FakeReward(0.8), new FakeReward(0.5)];
    const store = await RunStore.open(root, world({ dark, bright, late }));
    const { run } = await store.start("run", CONFIG);
    const [term = assert.fail()] = run.rewards;
    const add = (name: string) =>
      run.change((present) => [...present, { ...term, name, endpoint: name }]);
    let made: Promise<unknown> | undefined;
    dark.onCall = async () => {
      await (made ??= Promise.all([add("bright"), add("late")]));
    };
    await until(run);
    await made;
    assert.deepEqual(run.rewards.map(({ name }) => name), [term.name, "bright", "late"]);
    await assert.rejects(add("bright"), RunStateError);
    await store.close();
  });
});

Deno.test("runs train one after the other", async () => {
  await inFolder(async (root) => {
    const order: string[] = [];
    const dependencies = world({ dark: new FakeReward(0.2) });
    const store = await RunStore.open(root, {
      ...dependencies,
      openModel: ({ seed }) => {
        order.push(`open ${seed}`);
        const release = () => Promise.resolve(void order.push(`release ${seed}`));
        return Promise.resolve({ ...fakeModel(), release });
      },
    });
    const runs = [];
    for (const seed of [1, 2]) {
      runs.push(await store.start(`run-${seed}`, { ...CONFIG, seed, iterations: 2 }));
    }
    await Promise.all(runs.map(({ run }) => until(run)));
    await assert.rejects(store.resume("run-1", 2 ** 21), /Field iterations is 2097152, expected/);
    await assert.rejects(store.resume("run-1", 2.5), /Field iterations is 2\.5, expected/);
    await store.close();
    assert.deepEqual(order, ["open 1", "release 1", "open 2", "release 2"]);
  });
});

const PANEL = {
  ...CONFIG,
  panel: {
    every: 3,
    rewards: [{ name: "bright", endpoint: "bright" }],
    imagesPerPrompt: 4,
    minDiversity: 0.1,
  },
};
const panelsOf = (run: TrainingRun) =>
  run.log.events.flatMap((e) => e.type === "panel" ? [[e.step, e.alarm !== ""]] : []);

Deno.test("a held-out reward that falls while the trained one rises is an alarm, and by choice a stop", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const [dark, bright] = [new FakeReward(0.2), new FakeReward(2)];
    const store = await RunStore.open(root, world({ dark, bright }));
    const { run } = await store.start("run", PANEL);
    await until(run);
    assert.equal(run.state, "finished", String(run.log.lastState?.reason));
    // What makes pictures darker makes them less bright.
    assert.deepEqual(panelsOf(run), [[0, false], [3, true], [6, true], [9, true]]);
    const panel = run.log.events.find((e) => e.type === "panel" && e.step === 3);
    assert.ok(panel?.type === "panel");
    assert.match(panel.alarm, /^The trained reward rises, but bright is .* worse than at step 0/);
    assert.deepEqual(panel.heldOut, ["bright"]);
    assert.equal(panel.rewards.bright?.perImage.length, 8);
    assert.equal(panel.rewards.dark?.perImage.length, 8);
    // Watching changes nothing.
    assert.equal(await result(root), expected);

    const stop = { ...PANEL, panel: { ...PANEL.panel, stop: true } };
    const { run: stopped } = await store.start("stopped", stop);
    await until(stopped);
    assert.equal(stopped.state, "stopped");
    assert.match(stopped.log.lastState?.reason ?? "", /^The trained reward rises, but bright is/);
    assert.deepEqual([stopped.step, stopped.checkpoints], [3, [3]]);
    // Whoever knows better goes on, to the next alarm.
    await store.resume("stopped");
    await until(stopped);
    assert.deepEqual([stopped.state, stopped.step], ["stopped", 6]);
    await store.close();
  });
});

Deno.test("a panel is measured once per step, through kills, absent rewards, swaps and saves", async () => {
  await inFolder(async (root) => {
    const [live, killed] = [join(root, "live"), join(root, "killed")];
    await mkdir(live);
    const [dark, bright] = [new FakeReward(0.2), new FakeReward(2)];
    const store = await RunStore.open(live, world({ dark, bright }));
    const { run } = await store.start("run", { ...PANEL, sampleEvery: 0 });
    await until(run, (e) => e.type === "panel" && e.step === 3);
    bright.isAway = true;
    await until(run, isState("paused"));
    assert.equal(run.step, 6);
    await cp(live, killed, { recursive: true });
    assert.equal(await run.save(), 6);
    await until(run, (e) => e.type === "checkpoint" && e.step === 6);
    await until(run, (e) => isState("paused")(e) && run.state === "paused");
    bright.isAway = false;
    await until(run);
    await store.close();
    const steps = panelsOf(run).map(([step]) => step);
    assert.deepEqual(steps, [0, 3, 6, 9]);
    const again = await finish(killed, { dark, bright });
    assert.deepEqual(panelsOf(again), panelsOf(run));
    assert.equal(await result(killed), await result(live));
  });
  await inFolder(async (root) => {
    const [dark, bright] = [new FakeReward(0.2), new FakeReward(2)];
    const store = await RunStore.open(root, world({ dark, bright }));
    const { run } = await store.start("run", PANEL);
    await until(run, isStep(1));
    // From here on there is nothing held out but the new mixture's own reward of no weight.
    const [term] = run.config.rewards;
    assert.ok(term);
    const step = await run.swap([{ ...term, name: "bright", endpoint: "bright" }, {
      ...term,
      weight: 0,
    }]);
    await until(run);
    await store.close();
    assert.ok(step < 6, `swapped at ${step}`);
    const late = run.log.events.filter((e) => e.type === "panel" && e.step > step);
    assert.ok(late.every((e) => e.type === "panel" && e.heldOut.join() === "dark"));
    assert.ok(late.length > 1);
  });
});

Deno.test("drift holds a run to where it began, and says how far it is", async () => {
  const drifted = async (weight: number) => {
    let drifts: number[] = [];
    await inFolder(async (root) => {
      const dependencies: RunDependencies = {
        ...world({ dark: new FakeReward(0.2) }),
        openModel: () => Promise.resolve(fakeModel()),
      };
      const store = await RunStore.open(root, dependencies);
      const { run } = await store.start("run", { ...CONFIG, drift: { weight }, sampleEvery: 0 });
      await until(run);
      await store.close();
      assert.equal(run.state, "finished", String(run.log.lastState?.reason));
      drifts = run.log.events.flatMap((e) => e.type === "step" ? e.drift ?? NaN : []);
    });
    return drifts;
  };
  assert.ok((await drifted(0)).every(Number.isNaN));
  const [weak, strong] = [await drifted(1e-9), await drifted(1e3)];
  assert.equal(weak[0], 0);
  assert.ok((strong.at(-1) ?? NaN) < 0.1 * (weak.at(-1) ?? NaN), `${strong} against ${weak}`);
});

Deno.test("a recorder is told what the log is told, from the step where a run goes on", async () => {
  await inFolder(async (root) => {
    const told: string[] = [];
    const dependencies: RunDependencies = {
      ...world({ dark: new FakeReward(0.2) }),
      record: ({ id, step, events, folder }) => {
        told.push(
          `${id} from ${step}, ${folder === join(root, "run") ? events.length > 0 : folder}`,
        );
        return Promise.resolve({
          record: (event) => void (event.type === "step" && told.push(`step ${event.step}`)),
          close: () => Promise.resolve(void told.push("closed")),
        });
      },
    };
    const store = await RunStore.open(root, dependencies);
    const { run } = await store.start("run", { ...CONFIG, iterations: 2 });
    await until(run);
    await until(await store.resume("run", 3));
    await store.close();
    assert.deepEqual(told, [
      ...["run from 0, true", "step 0", "step 1", "step 2", "closed"],
      ...["run from 2, true", "step 3", "closed"],
    ]);
  });
});

Deno.test("a run that starts from a LoRA says from which, after a resume too", async () => {
  await inFolder(async (root) => {
    const tensors = { a: float32([0.1]), w: float32([0.2, 0.3]) };
    let read = 0;
    const dependencies: RunDependencies = {
      ...world({ dark: new FakeReward(0.2) }),
      openModel: () =>
        Promise.resolve({
          ...fakeModel(),
          readStart: () => {
            read++;
            const lora = { rank: 1, alpha: 1, targets: ["a"], tensors };
            return Promise.resolve({ lora, path: "start", sha256: "5a", metadata: {} });
          },
        }),
    };
    const store = await RunStore.open(root, dependencies);
    const config = { ...CONFIG, sampleEvery: 0, optimizer: { learningRate: 1e-9 } };
    const { run } = await store.start("run", { ...config, iterations: 1 });
    await until(run);
    await store.resume("run", 2);
    await until(run);
    await store.close();
    assert.equal(read, 1);
    const { parameters } = await readCheckpoint(run.folder.checkpoints, 2);
    assert.ok(Math.abs((parameters.a?.data[0] ?? NaN) - 0.1) < 1e-7);
    for (const step of [1, 2]) {
      assert.equal(
        (await readProvenance(run.folder.checkpoints, step))["drtune.start_lora_sha256"],
        "5a",
      );
    }
  });
});
