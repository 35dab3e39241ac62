import assert from "node:assert/strict";
import { curve, RunHistory } from "./run_history.ts";

const step = (step: number, mean: number | string = step / 10, samples: unknown[] = []) => ({
  event: "step",
  data: { step, loss: 0, gradNorm: 0, rewards: { clip: { mean } }, samples },
});

Deno.test("Events are kept in order of steps, and a replay changes nothing", () => {
  const history = new RunHistory();
  const events = [
    step(0, 9, [{ path: "0.png" }]),
    step(1),
    step(2, 0.2, [{ path: "a.png" }]),
    { event: "save", data: { step: 2 } },
    { event: "checkpoint", data: { step: 2 } },
    { event: "panel", data: { step: 2, rewards: {}, heldOut: ["clip"], diversity: 1, alarm: "" } },
    { event: "swap", data: { step: 2, rewards: [], at: "t1" } },
    { event: "swap", data: { step: 2, rewards: [], at: "t2" } },
    { event: "state", data: { state: "RUN_STATE_RUNNING", step: 2 } },
    { event: "state", data: { state: "RUN_STATE_PAUSED", reason: "", step: 2, at: "t3" } },
    step(3, "NaN"),
  ];
  for (const event of [...events, ...events]) history.take(event);
  assert.equal(history.lastStep, 3);
  assert.deepEqual(curve(history.steps, ({ rewards }) => rewards["clip"]?.mean), [[1, 0.1], [
    2,
    0.2,
  ], [
    3,
    NaN,
  ]]);
  assert.deepEqual([history.samples.length, history.checkpoints.length, history.swaps.length], [
    2,
    1,
    2,
  ]);
  assert.deepEqual([history.saves.length, history.panels.length], [1, 1]);
  assert.deepEqual(history.states.map(({ state }) => state), ["RUN_STATE_PAUSED"]);
  assert.deepEqual([...history.rewardNames], ["clip"]);
});

Deno.test("A run that fell back to a checkpoint writes its steps again", () => {
  const history = new RunHistory();
  for (const event of [step(1), step(2), step(3), step(2, 7)]) history.take(event);
  assert.deepEqual(curve(history.steps, ({ rewards }) => rewards["clip"]?.mean), [
    [1, 0.1],
    [2, 7],
    [
      3,
      0.3,
    ],
  ]);
  assert.equal(history.at(2)?.step, 2);
  assert.equal(history.at(99)?.step, 3);
  assert.equal(history.at(0), undefined);
});
