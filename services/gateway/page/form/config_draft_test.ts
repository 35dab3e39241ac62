import assert from "node:assert/strict";
import { ConfigDraft } from "./config_draft.ts";

/** Answers "/v1/configs/edit" with what is next: an HTTP status, or 0 for a server that is away. */
async function withAnswers(
  statuses: number[],
  test: (draft: ConfigDraft) => Promise<void>,
): Promise<void> {
  const plain = globalThis.fetch;
  const left = new AbortController();
  globalThis.fetch = (_, init) => {
    const status = statuses.shift() ?? 200;
    if (status === 0) return Promise.reject(new TypeError("away"));
    const { yaml, changes } = JSON.parse(String(init?.body));
    const text = [yaml, ...changes.map(({ value }: { value: number }) => `rank: ${value}`)];
    const answer = status === 200
      ? { yaml: text.join("\n").trim(), config: { lora: { rank: changes.at(-1)?.value } } }
      : { error: { code: "CODE", message: `Status ${status}` } };
    return Promise.resolve(Response.json(answer, { status }));
  };
  try {
    await test(new ConfigDraft(left.signal, { firstWaitMs: 1 }));
  } finally {
    left.abort();
    globalThis.fetch = plain;
  }
}

const rank = (value: number) => [{ path: ["lora", "rank"], value }];

Deno.test("A change that the gateway could not take is kept, and is in the text when it is back", () =>
  withAnswers([0, 503, 429, 200], async (draft) => {
    const changed = draft.change(rank(16));
    // Whoever starts the run meanwhile is told that it would be another one.
    assert.equal(await draft.settle(), false);
    assert.notEqual(draft.away, undefined);
    assert.equal(draft.fault, undefined);
    await changed;
    assert.deepEqual([draft.text, draft.away], ["rank: 16", undefined]);
    assert.deepEqual(draft.config, { lora: { rank: 16 } });
  }));

Deno.test("A change that is refused is given up, and told", () =>
  withAnswers([400, 200], async (draft) => {
    await draft.change(rank(-1));
    assert.deepEqual([draft.fault?.message, draft.away], ["Status 400", undefined]);
    await draft.change(rank(4));
    assert.deepEqual([draft.text, draft.fault], ["rank: 4", undefined]);
  }));

Deno.test("Whoever begins anew takes no change along that waited", () =>
  withAnswers([0, 0], async (draft) => {
    const changed = draft.change(rank(16));
    await draft.settle();
    while (!await draft.begin("seed: 1"));
    await changed;
    assert.equal(draft.text, "seed: 1");
  }));
