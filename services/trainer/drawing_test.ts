import assert from "node:assert/strict";
import { type OpenedModel, parseRunConfig } from "../../trainer/mod.ts";
import { fakeModel } from "../../trainer/testing/mod.ts";
import { withModel } from "./_drawing.ts";
import { Turns } from "./_turns.ts";

Deno.test("Who goes while a model is opened leaves the turn to the next when that model has ended", async () => {
  const turns = new Turns();
  const config = parseRunConfig({
    model: "tiny-sd",
    prompts: ["a fox"],
    rewards: [{ name: "dark", endpoint: "dark" }],
  });
  const asked: ((opened: OpenedModel) => void)[] = [];
  let [opened, most] = [0, 0];
  const dependencies = {
    prepare: () => Promise.resolve(config),
    connect: () => Promise.reject(new Error("Not part of this test")),
    openModel: () => {
      most = Math.max(most, ++opened);
      return new Promise<OpenedModel>((resolve) => asked.push(resolve));
    },
  };
  const model = (): OpenedModel => ({
    ...fakeModel(),
    release: () => Promise.resolve(void opened--),
  });
  const call = async (signal: AbortSignal) => {
    const used = withModel(dependencies, { config, signal, turns }, async function* () {
      yield "used";
    });
    return (await Array.fromAsync(used)).join();
  };
  for (let i = 0; i < 3; i++) {
    const abort = new AbortController();
    const gone = call(abort.signal);
    await new Promise((resolve) => setTimeout(resolve));
    abort.abort(new Error("Gone"));
    await assert.rejects(gone, /Gone/);
  }
  const last = call(new AbortController().signal);
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(asked.length, 1);
  asked[0]?.(model());
  while (asked.length < 2) await new Promise((resolve) => setTimeout(resolve));
  asked[1]?.(model());
  assert.equal(await last, "used");
  assert.deepEqual([opened, most], [0, 1]);
});
