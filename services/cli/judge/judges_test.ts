import assert from "node:assert/strict";
import sharp from "sharp";
import type { Reward } from "../../../rewards/mod.ts";
import { Judges } from "./judges.ts";

/** A reward whose score is the length of what it reads, and everything that it read. */
function reader(): { readonly reward: Reward; readonly read: string[] } {
  const read: string[] = [];
  return {
    read,
    reward: {
      info: {
        name: "length",
        kind: "length",
        direction: "maximise",
        range: [0, 1000],
        readsPrompt: true,
        preprocessing: "none",
        fileProcessing: "tensor",
        digest: "",
        provider: "cpu",
      },
      score(_, prompts) {
        read.push(...prompts);
        return Promise.resolve({ scores: Float32Array.from(prompts, (p) => p.length) });
      },
      dispose: () => Promise.resolve(),
    },
  };
}

Deno.test("Rewards of a run judge by what the run has them read, others by the prompt", async () => {
  const create = { width: 2, height: 2, channels: 3 as const, background: "red" };
  const image = await sharp({ create }).png().toBuffer();
  const pictures = ["a fox, and books", "a boat"].map((prompt) => ({ prompt, image }));
  const [own, other] = [reader(), reader()];
  await using judges = new Judges(
    new Map([["own", own.reward], ["other", other.reward]]),
    new Map([["own", { prompt: "a photo of {prompt}", without: [", and books"] }]]),
  );
  assert.deepEqual(await judges.score(pictures), { own: [16, 17], other: [16, 6] });
  assert.deepEqual(own.read, ["a photo of a fox", "a photo of a boat"]);
  assert.deepEqual(other.read, ["a fox, and books", "a boat"]);
});
