import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { WatchRunResponseSchema } from "../../proto/mod.ts";
import { toWireEvent } from "./wire_events.ts";

const at = "2026-01-02T03:04:05.678Z";

Deno.test("a panel's measurement arrives with its alarm, and a step with its drift", () => {
  const metrics = { mean: 0.5, perImage: [0.25, 0.75], digest: "ab" };
  const panel = create(
    WatchRunResponseSchema,
    toWireEvent({
      type: "panel",
      step: 6,
      rewards: { clip: metrics },
      heldOut: ["clip"],
      diversity: 0.125,
      alarm: "The trained reward rises, but clip falls",
      at,
    }),
  ).event;
  assert.ok(panel.case === "panel");
  const { step, rewards, heldOut, diversity, alarm, at: when } = panel.value;
  assert.deepEqual([step, heldOut, diversity], [6, ["clip"], 0.125]);
  assert.equal(alarm, "The trained reward rises, but clip falls");
  assert.deepEqual(rewards.clip?.perImage, [0.25, 0.75]);
  assert.equal(when?.seconds, BigInt(Date.parse(at)) / 1000n);

  const event = {
    type: "step" as const,
    step: 1,
    loss: 2,
    gradNorm: 3,
    rewards: {},
    seconds: {},
    secondsLeft: 0,
    samples: [],
    prompts: [],
    plans: [],
    at,
  };
  const drifts = [event, { ...event, drift: 0.25 }].map((e) => {
    const wire = create(WatchRunResponseSchema, toWireEvent(e)).event;
    return wire.case === "step" ? wire.value.drift : NaN;
  });
  assert.deepEqual(drifts, [undefined, 0.25]);
  const spent = [event, { ...event, cpuSeconds: 1.5 }].map((e) => {
    const wire = create(WatchRunResponseSchema, toWireEvent(e)).event;
    return wire.case === "step" ? wire.value.cpuSeconds : NaN;
  });
  assert.deepEqual(spent, [undefined, 1.5]);
});
