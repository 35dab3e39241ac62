import assert from "node:assert/strict";
import { BrowserPage, findChromium } from "./testing/chromium.ts";
import { lookFaults } from "./testing/look_faults.ts";
import { PAGE_VIEWS, startGateways } from "./testing/page_views.ts";

const chromium = findChromium();

Deno.test({
  name:
    "In a browser, every view in both themes, on a desktop and on a phone: contrast, width, targets, names",
  ignore: chromium === undefined,
  async fn() {
    if (chromium === undefined) return;
    await using stack = new AsyncDisposableStack();
    const gateways = await startGateways(stack);
    await using page = await BrowserPage.open(chromium);
    const found: string[] = [];
    for (const [width, height] of [[1280, 800], [390, 844]] as const) {
      let place: string | undefined;
      for (const { name, at = "full", open } of PAGE_VIEWS) {
        await page.look({ width, height, theme: "light" });
        if (place !== at) await page.goto(`http://${gateways[place = at]}/`);
        await open(page);
        for (const theme of ["light", "dark"] as const) {
          await page.look({ width, height, theme });
          const faults = await page.evaluate(`(${lookFaults})()`);
          assert(Array.isArray(faults));
          found.push(...faults.map((fault) => `${name}, ${width}, ${theme}: ${fault}`));
        }
        found.push(...(await page.unnamed()).map((fault) => `${name}, ${width}: ${fault}`));
      }
    }
    assert.deepEqual(found, []);
    assert.deepEqual(page.faults, []);
  },
});
