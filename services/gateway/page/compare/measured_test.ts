import assert from "node:assert/strict";
import { RunHistory } from "../run_history.ts";
import { courses, differenceOf, meanOf } from "./measured.ts";

/** A history of samples of prompts "a" to "d" whose reward at a step is base + slope times the prompt's number. */
function historyOf(steps: readonly (readonly [step: number, base: number, slope: number])[]) {
  const history = new RunHistory();
  for (const [step, base, slope] of steps) {
    const samples = ["a", "b", "c", "d"].map((prompt, i) => ({
      ...{ prompt, seed: i, path: `${step}/${i}.png` },
      rewards: { clip: base + slope * i },
    }));
    history.take({ event: "step", data: { step, rewards: {}, samples } });
  }
  return history;
}

Deno.test("A run's rewards are those of its last samples; changes are paired by prompt and seed", () => {
  const clip = courses(historyOf([[0, 1, 1], [10, 1.5, 1], [20, 2, 1.5]]), undefined).get("clip");
  assert(clip);
  assert.deepEqual([clip.first.step, clip.last.step, clip.last.source], [0, 20, "samples"]);
  // scipy.stats.t.interval(0.95, 3, loc=4.25, scale=scipy.stats.sem([2, 3.5, 5, 6.5]))
  const { mean, low, high, count } = meanOf(clip.last);
  assert.deepEqual([mean, count], [4.25, 4]);
  assert.ok(Math.abs(low - 1.16856) < 1e-4 && Math.abs(high - 7.33144) < 1e-4, `${low} ${high}`);
  // The same of [1, 1.5, 2, 2.5]: images differ more from one another than each does from itself.
  const change = differenceOf(clip.first, clip.last);
  assert.equal(change?.mean, 1.75);
  assert.ok(Math.abs((change?.low ?? 0) - 0.72285) < 1e-4, `${change?.low}`);
});

Deno.test("Two runs are compared on the images that both have, and on none where there are fewer than two", () => {
  const [a, b] = [historyOf([[20, 1, 1]]), historyOf([[40, 3, 1]])];
  const of = (history: RunHistory) => {
    const course = courses(history, undefined).get("clip");
    assert(course);
    return course.last;
  };
  assert.deepEqual(differenceOf(of(a), of(b)), { mean: 2, low: 2, high: 2, count: 4 });
  const others = { ...of(b), values: new Map([["0 a", 5], ["7 z", 5]]) };
  assert.equal(differenceOf(of(a), others), undefined);
});

Deno.test("A panel counts more than samples, and is compared only with one of the same prompts", () => {
  const history = historyOf([[0, 1, 1]]);
  const panel = (step: number, perImage: number[]) => ({
    event: "panel",
    data: { step, heldOut: [], rewards: { clip: { mean: 0, perImage } }, alarm: "" },
  });
  history.take(panel(0, [1, 2]));
  history.take(panel(5, [3, 4]));
  const config = (sha256: string) => ({
    heldOutPrompts: { sha256 },
    panel: { imagesPerPrompt: 2 },
  });
  const one = courses(history, config("ab")).get("clip");
  const other = courses(history, config("cd")).get("clip");
  assert(one && other);
  assert.deepEqual([one.last.source, one.last.step, meanOf(one.last).mean], ["panel", 5, 3.5]);
  assert.equal(differenceOf(one.first, one.last)?.mean, 2);
  assert.equal(differenceOf(one.last, other.last), undefined);
});
