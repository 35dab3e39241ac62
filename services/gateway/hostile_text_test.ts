import assert from "node:assert/strict";
import { RunState } from "../../proto/mod.ts";
import { findChromium } from "./testing/chromium.ts";
import { withPage } from "./testing/with_page.ts";

/** Would run in any place that reads text as HTML, as an attribute, as a URL or as a script. */
const HOSTILE =
  '"><img src=x onerror="globalThis.harmed=1"><svg/onload="globalThis.harmed=1">\'-globalThis.harmed=1-\'';

Deno.test({
  name: "In a browser: prompts, names of rewards and reasons that are HTML are text in every view",
  ignore: findChromium() === undefined,
  fn: () =>
    withPage(async ({ page, stack }) => {
      // The policy would stop what gets in: this is about getting in.
      await page.allowScripts();
      const rewards = [{ name: HOSTILE, endpoint: HOSTILE, weight: 1 }];
      const list = { prompts: [HOSTILE, "a fox"] };
      const prompts = { source: { case: "list" as const, value: list } };
      await stack.trainer.add({
        id: "hostile",
        steps: 20,
        state: RunState.FAILED,
        reason: HOSTILE,
        prompts: list.prompts,
        config: { rewards, prompts, model: HOSTILE, iterations: 40 },
      });
      stack.trainer.swap("hostile", rewards);
      await page.evaluate("location.reload()");
      const says = `document.body.innerText.includes("globalThis.harmed=1")`;
      for (const hash of ["runs", "runs/hostile", "services", "new", "compare/hostile"]) {
        await page.evaluate(`location.hash = "#/${hash}"`);
        await page.until(
          hash.startsWith("runs")
            ? says
            : 'document.querySelector("h1") && !document.body.innerText.includes("Loading")',
        );
      }
      await page.evaluate('location.hash = "#/runs/hostile"');
      await page.until(says);
      await page.evaluate('document.querySelectorAll("details").forEach((d) => d.open = true)');
      // The caption of an image at full size is where others have put text as HTML.
      await page.until('document.querySelector(".enlarge")');
      await page.evaluate('document.querySelector(".enlarge").click()');
      await page.until('document.querySelector(".viewer-caption").innerText.includes("harmed=1")');
      assert.equal(await page.evaluate("globalThis.harmed ?? 0"), 0);
      assert.equal(
        await page.evaluate('document.querySelectorAll("[onerror], [onload]").length'),
        0,
      );
    }),
});
