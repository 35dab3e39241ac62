import assert from "node:assert/strict";
import { findChromium } from "./testing/chromium.ts";
import { withPage } from "./testing/with_page.ts";

const text = (selector: string) => `document.querySelector(${JSON.stringify(selector)})?.innerText`;

Deno.test({
  name:
    "In a browser: images at full size by keys and fingers, drawn ones with rewards and in order, evaluation, downloads, log",
  ignore: findChromium() === undefined,
  fn: () =>
    withPage(async ({ page }) => {
      await page.click("foxes");
      const loaded =
        '[...document.querySelectorAll(".samples img")].filter((i) => i.naturalWidth > 0)';
      await page.until(`${loaded}.length === 8`);

      // The image that was asked for, then others of its step, then the same one of other steps.
      const place = text(".viewer-place");
      await page.evaluate(`document.querySelector('[aria-label^="Enlarge a lighthouse"]').click()`);
      await page.until(`${place} === "2 of 4 step 20 (3 of 3)"`);
      const alt = 'document.querySelector(".viewed").alt';
      assert.equal(await page.evaluate(alt), "a lighthouse at dusk, seed 1, step 20");
      await page.press("ArrowRight");
      assert.match(String(await page.evaluate(place)), /^3 of 4 step 20/);
      for (const _ of "12") await page.press("ArrowRight");
      assert.match(String(await page.evaluate(place)), /^1 of 4/);
      await page.press("ArrowUp");
      assert.equal(await page.evaluate(place), "1 of 4 step 10 (2 of 3)");
      assert.match(String(await page.evaluate(text(".viewer-caption"))), /symmetry 0\.50/);
      await page.swipe(".viewer-stage", { dx: -120, dy: 0 });
      assert.match(String(await page.evaluate(place)), /^2 of 4 step 10/);
      await page.swipe(".viewer-stage", { dx: 0, dy: 120 });
      assert.match(String(await page.evaluate(place)), /^2 of 4 step 0/);
      await page.until('document.querySelector(".viewed").naturalWidth === 96');
      const width = 'document.querySelector(".viewed").getBoundingClientRect().width';
      await page.press("1");
      assert.equal(await page.evaluate(width), 96);
      await page.press("+");
      assert.equal(await page.evaluate(width), 192);
      await page.click("Close");
      await page.until('!document.querySelector(".viewer")');

      // Beside the rewards of each image it stands itself.
      const thumbnails =
        '[...document.querySelectorAll(".per-image .thumbnail img")].filter((i) => i.naturalWidth > 0)';
      await page.until(`${thumbnails}.length === 8`);
      await page.evaluate('document.querySelectorAll(".thumbnail")[3].click()');
      await page.until(`${place} === "4 of 8"`);
      assert.match(String(await page.evaluate(alt)), /image 4 of step 20$/);
      await page.click("Close");

      // Rewards under images that are drawn; the fake ones count a file's bytes.
      await page.click("Draw images");
      await page.fill("dialog textarea", "a fox\na pier\na street");
      await page.evaluate(
        'document.querySelectorAll("dialog .checks input").forEach((e) => { if (!e.checked) e.click(); })',
      );
      await page.click("Draw");
      const scores =
        '[...document.querySelectorAll("dialog .sample")].map((f) => [...f.querySelectorAll(".score b")].map((b) => b.textContent).join())';
      await page.until(`${scores}.filter((s) => s.includes(",")).length === 3`);
      const order = async (reward: string) => {
        await page.evaluate(
          `{ const e = document.querySelector("dialog .sheet-controls select"); e.value = "${reward}";` +
            'e.dispatchEvent(new Event("change")); }',
        );
        const found = await page.evaluate(scores);
        assert(Array.isArray(found));
        return found.map((pair) => Number(String(pair).split(",")[0]));
      };
      const ascending = await order("symmetry");
      assert.deepEqual(ascending, ascending.toSorted((a, b) => a - b));
      assert.equal(new Set(ascending).size, 3);
      // Of CLIP more is better.
      assert.deepEqual(await order("clip"), ascending.toReversed());
      // The sheet as a picture: three images in a row of four, under each its prompt, its seed with the rewards, and space.
      await page.evaluate(
        "{ globalThis.made = []; const make = URL.createObjectURL.bind(URL);" +
          "URL.createObjectURL = (b) => { made.push(b); return make(b); }; }",
      );
      await page.click("Save the sheet");
      await page.until("made.length === 1");
      assert.equal(
        await page.evaluate("createImageBitmap(made[0]).then((b) => `${b.width} x ${b.height}`)"),
        "1104 x 332",
      );
      await page.evaluate('document.querySelector("dialog .enlarge").click()');
      await page.until(`${place} === "1 of 3"`);
      await page.click("Close");
      await page.click("Close");

      await page.click("Evaluate");
      await page.click("Measure");
      await page.until(`${text("dialog [role=status]")}?.startsWith("4 pairs at equal prompts")`);
      const row =
        '[...document.querySelectorAll("dialog tbody tr:first-child > *")].map((c) => c.textContent)';
      assert.deepEqual(await page.evaluate(row), [
        "symmetry smaller is better",
        ...["1", "0.500", "−0.500", "−0.600 to −0.400", "better"],
      ]);
      await page.click("Close");

      // The file's name says which checkpoint it is, and in which form. A dialog that was closed goes a moment later.
      await page.evaluate(
        "{ globalThis.saved = []; HTMLAnchorElement.prototype.click = function () { saved.push(this.download); }; }",
      );
      await page.click("Download LoRA");
      await page.evaluate(
        'document.querySelectorAll("dialog[open] select")[1].value = "LORA_FORMAT_KOHYA";' +
          'document.querySelectorAll("dialog[open] select")[0].value = "10"',
      );
      await page.evaluate('document.querySelector("dialog[open] .primary").click()');
      await page.until("saved.length === 1");
      assert.deepEqual(await page.evaluate("saved"), [
        "foxes-10-kohya-pytorch_lora_weights.safetensors",
      ]);

      await page.evaluate('document.querySelectorAll("details").forEach((d) => d.open = true)');
      const lines = 'document.querySelectorAll(".log li").length';
      const before = Number(await page.evaluate(lines));
      await page.evaluate('document.querySelector(".event-log input").click()');
      assert.equal(await page.evaluate(lines), before + 20);
    }),
});
