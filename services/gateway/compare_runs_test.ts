import assert from "node:assert/strict";
import { RunState } from "../../proto/mod.ts";
import { findChromium } from "./testing/chromium.ts";
import { withPage } from "./testing/with_page.ts";

const cells = (selector: string) =>
  `[...document.querySelectorAll(${
    JSON.stringify(selector)
  })].map((r) => [...r.cells].map((c) => c.innerText.trim()))`;

Deno.test({
  name:
    "In a browser: many runs are compared by curves, final rewards, configurations and samples, while one goes on",
  ignore: findChromium() === undefined,
  fn: () =>
    withPage(async ({ page, stack }) => {
      // More than a browser has connections to a server.
      const ids = Array.from({ length: 8 }, (_, i) => `sweep-${i}`);
      for (const [i, id] of ids.entries()) {
        const config = { iterations: 20, lora: { rank: 2 ** i } };
        await stack.trainer.add({ id, steps: i === 7 ? 10 : 20, state: RunState.RUNNING, config });
      }
      await page.evaluate(`location.hash = "#/compare/foxes/${ids.join("/")}"`);
      const curves =
        '[...document.querySelectorAll(".chart")].map((c) => c.querySelectorAll(".curve").length).join()';
      await page.until(`${curves} === "9,9,9"`);
      // The seventh colour is the first one, dashed.
      assert.equal(await page.evaluate('document.querySelectorAll(".curve.dash-1").length'), 9);
      const legend = 'document.querySelector(".chart .legend").innerText';
      // The last run's events may still be on their way.
      await page.until(`${legend}.endsWith("at step 10")`);
      // All have done 20 steps, but for the last, whose value is of its own last step.
      assert.match(
        String(await page.evaluate(legend)),
        /^foxes [\d.]+\n[\s\S]*sweep-7 [\d.]+ at step 10$/,
      );

      // A step of one that goes on arrives.
      const end = `document.querySelector(".plot").getAttribute("aria-valuetext")`;
      const before = await page.evaluate(end);
      for (let i = 0; i < 10; i++) await stack.trainer.step("sweep-7");
      await page.until(`${end} !== ${JSON.stringify(before)}`);
      await page.until(`${cells(".final:first-child tbody tr")}.at(-1)[2].startsWith("step 20")`);

      // The samples' rewards are closed forms: 1 - progress at equal prompts and seeds.
      const rows = await page.evaluate(cells(".final:first-child tbody tr"));
      assert(Array.isArray(rows));
      assert.equal(rows.length, 9);
      assert.deepEqual(rows[0], [
        "foxes",
        "0 (0 to 0)",
        "step 20, 4 images of its samples",
        "−1 (−1 to −1) better",
        "–",
      ]);
      assert.equal(rows[1][4], "0 (0 to 0) no difference that is certain");

      const differences = cells('[aria-label="Differences of the configurations"] tbody tr');
      const found = await page.evaluate(differences);
      assert(Array.isArray(found));
      const rank = found.find(([field]) => field === "lora.rank");
      assert.deepEqual(rank.slice(1), ["16", ...ids.map((_, i) => String(2 ** i))]);

      // Fewer runs: the address says which, and the view stays.
      const toggle = (id: string) =>
        page.evaluate(
          `[...document.querySelectorAll(".run-picker label")].find((l) => l.innerText.includes(${
            JSON.stringify(id)
          })).querySelector("input").click()`,
        );
      for (const id of ids.slice(1)) await toggle(id);
      await page.until(`${curves} === "2,2,2"`);
      assert.equal(await page.evaluate("location.hash"), "#/compare/foxes/sweep-0");
      const images =
        '[...document.querySelectorAll(".side-by-side img")].filter((i) => i.naturalWidth > 0)';
      await page.until(`${images}.length === 8`);
      await page.fill(".comparison .scrub input", "10");
      await page.until(
        'document.querySelector(".side-by-side thead").innerText.includes("sweep-0 step 10")',
      );
      // In the viewer up and down go through the runs.
      await page.evaluate('document.querySelector(".side-by-side .enlarge").click()');
      const place = 'document.querySelector(".viewer-place").innerText';
      assert.equal(await page.evaluate(place), "1 of 4 foxes, step 10 (1 of 2)");
      await page.press("ArrowDown");
      assert.equal(await page.evaluate(place), "1 of 4 sweep-0, step 10 (2 of 2)");
      await page.click("Close");

      await page.click("Judge blind");
      const select = '[...document.querySelectorAll("select")].map((s) => s.value).join()';
      await page.until(`${select} === "foxes,0,foxes,20"`);
    }),
});
