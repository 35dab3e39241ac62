import assert from "node:assert/strict";
import { Builder, float32 } from "../autodiff/mod.ts";
import type { Engine, Session } from "../runtime/mod.ts";
import { SessionCache } from "./_session_cache.ts";

/** An engine that remembers which models it holds. */
class FakeEngine implements Engine {
  readonly pid = 0;
  readonly live = new Set<string>();
  failing = false;
  loads = 0;

  load({ name = "" }: { readonly name?: string }): Promise<Session> {
    this.loads++;
    if (this.failing) return Promise.reject(new Error("No memory"));
    this.live.add(name);
    return Promise.resolve({
      inputNames: [],
      outputNames: [],
      run: () => Promise.resolve({}),
      dispose: () => {
        this.live.delete(name);
        return Promise.resolve();
      },
    });
  }
  keep(): Promise<void> {
    return Promise.resolve();
  }
  forget(): Promise<void> {
    return Promise.resolve();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A graph with 4 MiB of constants; each session counts for one more. */
function write() {
  const b = new Builder();
  const big = b.constant(float32(new Float32Array(2 ** 20)));
  return { b, outputs: { y: b.add(b.input("x", big), big) } };
}

Deno.test("SessionCache frees the longest unused session beyond its bound", async () => {
  const engine = new FakeEngine();
  const cache = new SessionCache(engine, { maxBytes: 11 * 2 ** 20 });
  const use = (name: string) => cache.use(name, write, () => Promise.resolve());
  for (const name of ["a", "b", "a", "c"]) await use(name);
  assert.deepEqual([...engine.live].sort(), ["a", "c"]);
  assert.equal(engine.loads, 3);
  await use("b");
  assert.deepEqual([...engine.live].sort(), ["b", "c"]);
  await cache.dispose();
  assert.equal(engine.live.size, 0);
});

Deno.test("SessionCache frees no session in use, even where it alone exceeds the bound", async () => {
  const engine = new FakeEngine();
  const cache = new SessionCache(engine, { maxBytes: 2 ** 20 });
  await cache.use("a", write, async () => {
    await cache.use("b", write, () => Promise.resolve());
    assert.deepEqual([...engine.live].sort(), ["a", "b"]);
  });
  await cache.use("b", write, () => Promise.resolve());
  assert.deepEqual([...engine.live], ["b"]);
});

Deno.test("SessionCache loads a session once for callers that come together, and again after a failure", async () => {
  const engine = new FakeEngine();
  const cache = new SessionCache(engine, { maxBytes: 2 ** 30 });
  const use = () => cache.use("a", write, () => Promise.resolve(1));
  engine.failing = true;
  const results = await Promise.allSettled([use(), use()]);
  assert.deepEqual(results.map((r) => r.status), ["rejected", "rejected"]);
  assert.equal(engine.loads, 1);
  engine.failing = false;
  assert.deepEqual(await Promise.all([use(), use()]), [1, 1]);
  assert.equal(engine.loads, 2);
});
