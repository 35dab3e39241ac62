import assert from "node:assert/strict";
import { CPU_TARGET } from "../compile/mod.ts";
import { openEngine } from "../runtime/mod.ts";
import { RewardSessions } from "./_reward_sessions.ts";
import { TextEmbedder } from "./_text_embedder.ts";

Deno.test("Who aborts while a text is embedded takes it from nobody else", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  const sessions = new RewardSessions(engine, {
    compile: CPU_TARGET,
    session: {},
    maxBytes: 2 ** 30,
  });
  const embedder = new TextEmbedder({
    encode: (text) => [...text].map((letter) => letter.charCodeAt(0)),
    tokens: 2,
    cuts: () => false,
    embed: (b, ids) => b.cast(ids, "float32"),
  }, sessions);
  const controller = new AbortController();
  const first = embedder.embed("ab", controller.signal).embedding;
  const second = embedder.embed("ab").embedding;
  controller.abort(new Error("Enough"));
  await assert.rejects(first, new Error("Enough"));
  assert.deepEqual(await second, Float32Array.of(97, 98));
  await sessions.dispose();
  await engine.close();
});
