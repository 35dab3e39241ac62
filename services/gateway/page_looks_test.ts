import assert from "node:assert/strict";
import { createLogger } from "../common/mod.ts";
import { serveGateway } from "./serve_gateway.ts";
import { BrowserPage, findChromium } from "./testing/chromium.ts";
import { startFakeStack } from "./testing/fake_stack.ts";
import { lookFaults } from "./testing/look_faults.ts";
import { addRuns, PAGE_VIEWS } from "./testing/page_views.ts";

const chromium = findChromium();

Deno.test({
  name:
    "In a browser, every view in both themes, on a desktop and on a phone: contrast, width, targets, names",
  ignore: chromium === undefined,
  async fn() {
    if (chromium === undefined) return;
    await using stack = await startFakeStack();
    await addRuns(stack.trainer);
    const { address: trainer, rewards, runs } = stack;
    const log = createLogger({ level: "silent" });
    const gateway = await serveGateway({ trainer, rewards, runs, port: 0, log });
    try {
      await using page = await BrowserPage.open(chromium);
      await page.goto(`http://${gateway.address}/`);
      const found: string[] = [];
      for (const [width, height] of [[1280, 800], [390, 844]] as const) {
        for (const { name, open } of PAGE_VIEWS) {
          await page.look({ width, height, theme: "light" });
          await open(page);
          for (const theme of ["light", "dark"] as const) {
            await page.look({ width, height, theme });
            const faults = await page.evaluate(`(${lookFaults})()`);
            assert(Array.isArray(faults));
            for (const fault of faults) found.push(`${name}, ${width}, ${theme}: ${fault}`);
          }
          for (const fault of await page.unnamed()) found.push(`${name}, ${width}: ${fault}`);
        }
      }
      assert.deepEqual(found, []);
      assert.deepEqual(page.faults, []);
    } finally {
      await gateway.stop({ drainSeconds: 0 });
    }
  },
});
