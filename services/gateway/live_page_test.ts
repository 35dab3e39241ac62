import assert from "node:assert/strict";
import { RunState } from "../../proto/mod.ts";
import { findChromium } from "./testing/chromium.ts";
import { withPage } from "./testing/with_page.ts";

const chromium = findChromium();
/** Steps of the first chart, as a screen reader is told. */
const STEP = 'Number(document.querySelector(".plot")?.getAttribute("aria-valuenow") ?? 0)';

Deno.test({
  name:
    "In a browser: a run is started, its curves move, a reward is swapped, the run is saved, stopped and resumed",
  ignore: chromium === undefined,
  fn: () =>
    withPage(async ({ page, stack }) => {
      await page.click("Start a run");
      await page.fill('input[type="text"]', "from-the-page");
      await page.until('document.querySelector(".editor")?.value.includes("rewards:")');
      const yaml = String(await page.evaluate('document.querySelector(".editor").value'));
      await page.fill(".editor", yaml.replace("rank: 4", "rank: many"));
      await page.until('document.body.innerText.includes("Line 5: Field lora.rank is \\"many\\"")');
      await page.fill(".editor", yaml.replace("iterations: 2", "iterations: 60"));
      await page.until('document.body.innerText.includes("The configuration can be read.")');
      await page.click("Start");
      await page.until('location.hash === "#/runs/from-the-page"');

      const drawn = 'document.querySelector(".curve")?.getAttribute("d")';
      for (let i = 0; i < 3; i++) await stack.trainer.step("from-the-page");
      await page.until(`${STEP} === 3`);
      const before = await page.until(drawn);
      for (let i = 0; i < 3; i++) await stack.trainer.step("from-the-page");
      await page.until(`${STEP} === 6 && ${drawn} !== ${JSON.stringify(before)}`);

      await page.click("Change rewards");
      await page.fill('dialog input[type="number"]', "0.25");
      await page.click("Change");
      await page.until('document.querySelectorAll(".marker").length === 4');
      await page.until('document.body.innerText.includes("weight 0.25")');

      await page.click("Save now");
      await page.until('document.querySelector(".tiles").innerText.includes("step 6\\n1 in all")');

      await page.click("Stop");
      await page.until('document.querySelector(".state-stopped")');
      await page.click("Resume");
      await page.fill('dialog input[type="number"]', "99");
      await page.press("Enter");
      await page.until('document.querySelector(".state-running")');
      await page.until('document.body.innerText.includes("6 of 99")');
      await stack.trainer.step("from-the-page");
      await page.until(`${STEP} === 7`);

      // Opened anew, the run of the address is compared, though a newer one arrives before it.
      await page.evaluate('location.hash = "#/judge/foxes"; location.reload()');
      const chosen = '[...document.querySelectorAll("select")].map((s) => s.value).join()';
      await page.until(`${chosen} === "foxes,0,foxes,20"`);
    }),
});

Deno.test({
  name:
    "In a browser: the token is asked for once, samples are uncovered, two checkpoints are compared blind",
  ignore: chromium === undefined,
  fn: () =>
    withPage(async ({ page }) => {
      const enter = async (token: string) => {
        await page.fill('input[type="password"]', token);
        await page.click("Enter");
      };
      await enter("a-wrong-token-of-that-length");
      await page.until('document.body.innerText.includes("This is not the token.")');
      await enter("a-right-token-of-that-length");
      await page.click("foxes");
      // Images come with the token in a header.
      const loaded =
        '[...document.querySelectorAll(".samples img")].filter((i) => i.naturalWidth > 0)';
      await page.until(`${loaded}.length === 8`);
      const wipe = 'getComputedStyle(document.querySelector(".before")).clipPath';
      assert.match(String(await page.evaluate(wipe)), /100%/);
      await page.fill(".scrub label:last-child input", "40");
      assert.match(String(await page.evaluate(wipe)), /60%/);

      // The crosshair goes by keys, in all charts together.
      await page.evaluate('document.querySelector(".plot").focus()');
      for (const key of ["ArrowLeft", "ArrowLeft", "Home", "ArrowRight"]) await page.press(key);
      const steps =
        '[...document.querySelectorAll(".plot")].map((p) => p.getAttribute("aria-valuenow")).join()';
      assert.equal(await page.evaluate(steps), "2,2,2,2");

      await page.click("Compare");
      await page.click("Judge blind");
      await page.fill(".narrow textarea", "# animals\na fox\nan owl\n# places\na pier");
      await page.click("Begin");
      for (const [i, key] of ["ArrowLeft", "ArrowRight", "ArrowDown"].entries()) {
        await page.until(`document.querySelector(".pair")?.dataset.pair === "${i}"`);
        // Nothing on the page says which is which.
        const text = await page.evaluate('document.querySelector("main").innerHTML');
        assert.doesNotMatch(String(text), /foxes|heckpoint|LoRA/);
        await page.press(key);
      }
      await page.until('!!document.querySelector(".results")');
      const rows = await page.evaluate(
        '[...document.querySelectorAll(".results tbody tr")].map((r) => [...r.cells].slice(0, 4)' +
          ".map((c) => c.textContent))",
      );
      assert(Array.isArray(rows));
      const [animals, places, all] = rows;
      assert.deepEqual(places, ["places", "0", "1", "0"]);
      assert.deepEqual([animals[0], animals[2], Number(animals[1]) + Number(animals[3])], [
        "animals",
        "0",
        2,
      ]);
      assert.deepEqual([all[0], all[1], all[2], all[3]], ["all", animals[1], "1", animals[3]]);
      assert.match(
        String(await page.evaluate('document.querySelector(".results").innerText')),
        /foxes, without LoRA[\s\S]*foxes, checkpoint 20/,
      );
    }, { token: "a-right-token-of-that-length" }),
});

Deno.test({
  name:
    "In a browser: nothing is lost while the gateway is away or the tab is hidden, and a deleted run goes",
  ignore: chromium === undefined,
  fn: () =>
    withPage(async ({ page, stack, restart }) => {
      const { trainer } = stack;
      await trainer.add({ id: "live", state: RunState.RUNNING, steps: 3 });
      await page.click("live");
      await page.until(`${STEP} === 3`);
      await restart(async () => {
        await page.until(`document.querySelector(".banner").innerText.includes("is lost")`);
        for (let i = 0; i < 3; i++) await trainer.step("live");
      });
      await page.until(`${STEP} === 6 && document.querySelector(".banner").hidden`);

      // A hidden tab holds no connection: a browser has few to a server.
      const hide = (hidden: boolean) =>
        page.evaluate(
          `Object.defineProperty(document, "hidden", { value: ${hidden}, configurable: true });` +
            `document.dispatchEvent(new Event("visibilitychange"))`,
        );
      const streams = 'fetch("/metrics").then((r) => r.text()).then((text) => ' +
        "text.match(/^drtune_gateway_streams (\\d+)$/m)[1])";
      await page.until(`${streams}.then((count) => count === "2")`);
      await hide(true);
      await page.until(`${streams}.then((count) => count === "0")`);
      await trainer.step("live");
      await hide(false);
      await page.until(`${STEP} === 7`);
      // Every step is there, once.
      await page.evaluate('document.querySelector(".plot").focus()');
      await page.press("Home");
      for (let step = 1; step <= 7; step++) {
        assert.equal(await page.evaluate(STEP), step);
        await page.press("ArrowRight");
      }

      trainer.delete("live");
      await page.until('document.body.innerText.includes("No run live")');
    }),
});
