import assert from "node:assert/strict";
import { createLogger } from "../../base/mod.ts";
import { LocalRewardHost } from "./reward_host.ts";
import { fakeReward } from "./testing/fake_reward.ts";
import { flatImages } from "./testing/images.ts";
import { hasStatus } from "./testing/status.ts";

/** A host of fake rewards, and what happened to them. */
function fakeHost(
  options: { readonly defaultName?: string; readonly beginsWith?: readonly string[] } = {},
) {
  const events: string[] = [];
  const host = new LocalRewardHost({
    ...options,
    log: createLogger({ level: "silent" }),
    start: async (name, record) => {
      const { fails, gate, ...rest } = record;
      const reward = fakeReward({ ...rest, name });
      events.push(`start ${reward.info.digest}`);
      await gate;
      if (fails) throw new Error(String(fails));
      const dispose = () => Promise.resolve(void events.push(`end ${reward.info.digest}`));
      return { ...reward, dispose };
    },
    onReady: (name, ready) => events.push(`${name} ${ready ? "up" : "down"}`),
  });
  return { host, events };
}

/** Lets everything go on that can. */
const turn = () => new Promise<void>((resolve) => setTimeout(resolve));

const job = { images: flatImages([0.5]), prompts: [""], gradient: false };

Deno.test("The only reward is the default; of several the configured one is", async () => {
  const { host } = fakeHost();
  assert.throws(
    () => host.get(""),
    hasStatus("INVALID_ARGUMENT", /^Reward is not named; there are none$/),
  );
  await host.load("a", {});
  assert.equal(host.get("").info.name, "a");
  await host.load("b", {});
  assert.throws(
    () => host.get(""),
    hasStatus("INVALID_ARGUMENT", /^Reward is not named; there are a, b$/),
  );

  const configured = fakeHost({ defaultName: "b" }).host;
  await configured.load("a", {});
  await configured.load("b", {});
  assert.equal(configured.get("").info.name, "b");
});

Deno.test("What a server begins with is loading from the start, not unknown", async () => {
  const { host } = fakeHost({ beginsWith: ["a", "b"] });
  assert.throws(() => host.get("b"), hasStatus("UNAVAILABLE", /^Reward b is loading$/));
  assert.throws(() => host.get(""), hasStatus("INVALID_ARGUMENT", /there are a, b$/));
  await host.load("a", {});
  assert.equal(host.starting, true);
  await host.load("b", {});
  assert.equal(host.starting, false);
});

Deno.test("A reward is loading until it has loaded, and gone when that fails", async () => {
  const { host } = fakeHost();
  const loading = host.load("a", { fails: "No such file" });
  assert.equal(host.list()[0]?.state, "loading");
  assert.throws(() => host.get("a"), hasStatus("UNAVAILABLE", /^Reward a is loading$/));
  await assert.rejects(
    loading,
    hasStatus("FAILED_PRECONDITION", /^Reward a cannot be loaded: No such file$/),
  );
  assert.deepEqual(host.list(), []);
  await assert.rejects(
    host.load("../a", {}),
    hasStatus("INVALID_ARGUMENT", /^Name of a reward is "\.\.\/a"/),
  );
});

Deno.test("A swap ends the old reward after what it accepted; a held reference follows the swap", async () => {
  const { host, events } = fakeHost();
  await host.load("a", { scale: 1 });
  const held = host.get("a");
  const accepted = held.score(job);
  const replaced = await host.load("a", { scale: 2 });
  assert.equal(replaced?.digest, "scale 1");
  assert.deepEqual([(await accepted).info.digest, ...(await accepted).scores], ["scale 1", 0.5]);
  const after = await held.score(job);
  assert.deepEqual([after.info.digest, ...after.scores], ["scale 2", 1]);
  assert.deepEqual(events, ["start scale 1", "a up", "start scale 2", "a up", "end scale 1"]);
});

Deno.test("A failed load changes nothing and leaves nothing behind", async () => {
  const { host, events } = fakeHost();
  await host.load("a", { scale: 1 });
  await assert.rejects(
    host.load("a", { fails: "Truncated" }),
    hasStatus("FAILED_PRECONDITION", /Truncated/),
  );
  assert.equal((await host.get("a").score(job)).info.digest, "scale 1");
  assert.deepEqual(events, ["start scale 1", "a up", "start scale 1"]);
});

Deno.test("Loads of one name follow each other after one that failed, and each ends the one before", async () => {
  const { host, events } = fakeHost();
  const gates = [1, 2].map(() => Promise.withResolvers<void>());
  const failing = host.load("a", { fails: "Broken", gate: gates[0]?.promise });
  const second = host.load("a", { scale: 2, gate: gates[1]?.promise });
  gates[0]?.resolve();
  await assert.rejects(failing, hasStatus("FAILED_PRECONDITION", /Broken/));
  assert.deepEqual(host.list().map(({ state }) => state), ["loading"]);
  const third = host.load("a", { scale: 3 });
  await turn();
  gates[1]?.resolve();
  assert.deepEqual([await second, (await third)?.digest], [undefined, "scale 2"]);
  await host.close();
  assert.deepEqual(
    events.filter((event) => !event.startsWith("a ")),
    ["start scale 1", "start scale 2", "start scale 3", "end scale 2", "end scale 3"],
  );
});

Deno.test("Loads follow an unload that waits for what was accepted, and begin without its record", async () => {
  const { host, events } = fakeHost();
  const gates = [1, 2].map(() => Promise.withResolvers<void>());
  await host.load("a", { scale: 1, onRun: () => gates[0]?.promise });
  const accepted = host.get("a").score(job);
  await turn();
  const unloading = host.unload("a");
  assert.throws(() => host.get("a"), hasStatus("NOT_FOUND", /there are none$/));
  const bare = host.load("a");
  assert.throws(() => host.get("a"), hasStatus("UNAVAILABLE", /^Reward a is loading$/));
  const refused = assert.rejects(bare, hasStatus("FAILED_PRECONDITION", /has no record$/));
  const second = host.load("a", { scale: 2, gate: gates[1]?.promise });
  const again = host.unload("a");
  const third = host.load("a", { scale: 3 });
  await turn();
  assert.deepEqual(events.slice(2), ["a down"]);
  gates[0]?.resolve();
  await Promise.all([accepted, unloading, refused, turn()]);
  gates[1]?.resolve();
  await Promise.all([second, again, third]);
  await host.close();
  assert.deepEqual(
    events.filter((event) => !event.startsWith("a ")),
    [
      ...["start scale 1", "end scale 1", "start scale 2", "end scale 2"],
      ...["start scale 3", "end scale 3"],
    ],
  );
});

Deno.test("A host that closes ends what is being loaded and unloaded too", async () => {
  const { host, events } = fakeHost();
  const gates = [1, 2].map(() => Promise.withResolvers<void>());
  await host.load("a", { scale: 1, onRun: () => gates[0]?.promise });
  const accepted = host.get("a").score(job);
  await turn();
  const unloading = host.unload("a");
  const loading = host.load("b", { scale: 2, gate: gates[1]?.promise });
  const closed = host.close().then(() => events.push("closed"));
  await turn();
  for (const { resolve } of gates) resolve();
  await Promise.all([accepted, unloading, loading, closed]);
  assert.deepEqual(events.filter((event) => /^(end|closed)/.test(event)).sort(), [
    "closed",
    "end scale 1",
    "end scale 2",
  ]);
  assert.equal(events.at(-1), "closed");
});

Deno.test("A load without a record repeats the last one that worked", async () => {
  const { host } = fakeHost();
  await assert.rejects(host.load("a"), hasStatus("FAILED_PRECONDITION", /has no record/));
  await host.load("a", { scale: 3 });
  await assert.rejects(
    host.load("a", { fails: "Broken" }),
    hasStatus("FAILED_PRECONDITION", /Broken/),
  );
  assert.equal((await host.load("a"))?.digest, "scale 3");
});

Deno.test("Unloading ends a reward, also while a request is between look-up and queue", async () => {
  const { host, events } = fakeHost();
  await host.load("a", {});
  const held = host.get("a");
  await host.unload("a");
  assert.deepEqual(events, ["start scale 1", "a up", "a down", "end scale 1"]);
  assert.throws(() => host.get("a"), hasStatus("NOT_FOUND", /there are none/));
  assert.throws(() => held.score(job), hasStatus("UNAVAILABLE", /unloaded/));
  await assert.rejects(host.unload("a"), hasStatus("NOT_FOUND", /"a" is not here/));
  await assert.rejects(host.load("a"), hasStatus("FAILED_PRECONDITION", /has no record$/));
});
