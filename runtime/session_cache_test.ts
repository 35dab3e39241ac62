import assert from "node:assert/strict";
import type { Engine, ModelSource, Place, Session } from "./session.ts";
import { SessionCache } from "./session_cache.ts";

/** An engine that remembers which sessions live, and fails where it is told to. */
class FakeEngine implements Engine {
  readonly pid = 0;
  readonly live: string[] = [];
  readonly loads: string[] = [];
  failing: (name: string) => boolean = () => false;

  async load({ name = "" }: ModelSource): Promise<Session> {
    this.loads.push(name);
    await Promise.resolve();
    if (this.failing(name)) throw new Error(`No memory for ${name}`);
    this.live.push(name);
    return {
      inputNames: [],
      outputNames: [name],
      run: () => Promise.resolve({}),
      dispose: () => {
        const at = this.live.indexOf(name);
        assert.ok(at >= 0, `${name} is disposed of twice`);
        this.live.splice(at, 1);
        return Promise.resolve();
      },
    };
  }
  place(place: string): Place {
    return { place };
  }
  keep(): Promise<void> {
    return Promise.resolve();
  }
  cpuSeconds(): Promise<number> {
    return Promise.resolve(0);
  }
  forget(): Promise<void> {
    return Promise.resolve();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

const model = (name: string, heldBytes = 1) => () => ({
  name,
  bytes: new Uint8Array(),
  options: {},
  heldBytes,
});

const nothing = () => Promise.resolve();

Deno.test("uses that come together share one load, and none leaks", async () => {
  const engine = new FakeEngine();
  const cache = new SessionCache(engine);
  const names = await Promise.all(
    Array.from({ length: 20 }, (_, i) => {
      const name = i % 2 === 0 ? "even" : "odd";
      return cache.use(name, model(name), ({ outputNames }) => Promise.resolve(outputNames[0]));
    }),
  );
  assert.deepEqual(names, Array.from({ length: 20 }, (_, i) => i % 2 === 0 ? "even" : "odd"));
  assert.deepEqual(engine.loads, ["even", "odd"]);
  await cache.dispose();
  assert.deepEqual(engine.live, []);
});

Deno.test("a failed load fails those alone who waited for it, and is tried again for the next", async () => {
  const engine = new FakeEngine();
  engine.failing = (name) => name === "large";
  const cache = new SessionCache(engine);
  const results = await Promise.allSettled([
    cache.use("large", model("large"), nothing),
    cache.use("small", model("small"), nothing),
    cache.use("large", model("large"), nothing),
    cache.use("unwritten", () => {
      throw new RangeError("No such graph");
    }, nothing),
  ]);
  assert.deepEqual(results.map((r) => r.status === "rejected" ? r.reason.message : "done"), [
    "No memory for large",
    "done",
    "No memory for large",
    "No such graph",
  ]);
  assert.deepEqual(engine.loads, ["large", "small"]);
  assert.equal(cache.has("large"), false);
  engine.failing = () => false;
  await cache.use("large", model("large"), nothing);
  assert.deepEqual(engine.live, ["small", "large"]);
});

Deno.test("an action that fails leaves its session loaded", async () => {
  const engine = new FakeEngine();
  const cache = new SessionCache(engine);
  await assert.rejects(cache.use("a", model("a"), () => Promise.reject(new Error("No image"))));
  await cache.use("a", model("a"), nothing);
  assert.deepEqual(engine.loads, ["a"]);
  assert.equal(cache.isUsed("a"), false);
});

Deno.test("those unused for longest are freed, before another is loaded", async () => {
  for (const bound of [{ maxBytes: 2 }, { maxSessions: 2 }]) {
    const engine = new FakeEngine();
    const cache = new SessionCache(engine, bound);
    for (const name of ["a", "b", "a", "c"]) {
      const write = () => {
        assert.ok(engine.live.length <= 2);
        return model(name)();
      };
      await cache.use(name, write, nothing);
    }
    assert.deepEqual(engine.live, ["a", "c"]);
    assert.deepEqual(engine.loads, ["a", "b", "c"]);
    await cache.makeRoom(2);
    assert.deepEqual(engine.live, "maxBytes" in bound ? [] : ["a", "c"]);
  }
});

Deno.test("where a session in use leaves no room, another waits for it, or exceeds the bound", async () => {
  for (const whenFull of ["waits", "exceeds"] as const) {
    const engine = new FakeEngine();
    const cache = new SessionCache(engine, { maxBytes: 2, whenFull });
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const first = cache.use("a", model("a", 2), async () => {
      begin();
      await held;
    });
    await begun;
    const second = cache.use("b", model("b", 2), nothing);
    if (whenFull === "exceeds") {
      await second;
      assert.deepEqual(engine.live, ["a", "b"]);
    } else {
      // Any number of turns later it still waits.
      for (let i = 0; i < 100; i++) await Promise.resolve();
      assert.deepEqual(engine.loads, ["a"]);
    }
    release();
    await Promise.all([first, second]);
    if (whenFull === "waits") assert.deepEqual(engine.live, ["b"]);
    await cache.dispose();
    assert.deepEqual(engine.live, []);
  }
});

Deno.test("two that together leave no room do not wait for one another", async () => {
  const engine = new FakeEngine();
  const cache = new SessionCache(engine, { maxBytes: 2, whenFull: "waits" });
  await Promise.all(["a", "b", "c"].map((name) => cache.use(name, model(name, 2), nothing)));
  await cache.use("d", model("d", 2), nothing);
  assert.deepEqual(engine.live, ["d"]);
});

Deno.test("a dropped session ends when nobody uses it, and the next use loads it again", async () => {
  const engine = new FakeEngine();
  const cache = new SessionCache(engine);
  let dropped: Promise<void> | undefined;
  await cache.use("a", model("a"), async () => {
    dropped = cache.drop("a");
    await Promise.resolve();
    assert.deepEqual(engine.live, ["a"]);
  });
  await dropped;
  assert.deepEqual(engine.live, []);
  await cache.use("a", model("a"), nothing);
  assert.deepEqual(engine.loads, ["a", "a"]);
});
