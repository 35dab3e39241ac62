/**
 * Pictures of every view of the live page, in both themes, as on a desktop and as on a phone, to be looked at. The
 * numbers and images in them are made up. Arguments: a folder (page-pictures), and names of views (all).
 */
import { join } from "node:path";
import {
  BrowserPage,
  findChromium,
  PAGE_VIEWS,
  startGateways,
} from "../services/gateway/testing/mod.ts";

const [folder = "page-pictures", ...only] = Deno.args;
const chromium = findChromium();
if (chromium === undefined) {
  console.error("No Chromium on the PATH; DRTUNE_CHROMIUM may name one");
  Deno.exit(1);
}
await Deno.mkdir(folder, { recursive: true });
await using stack = new AsyncDisposableStack();
const gateways = await startGateways(stack);
await using page = await BrowserPage.open(chromium);
for (const [device, width, height] of [["desktop", 1280, 800], ["phone", 390, 844]] as const) {
  let place: string | undefined;
  for (const { name, at = "full", open } of PAGE_VIEWS) {
    if (only.length > 0 && !only.includes(name)) continue;
    await page.look({ width, height, theme: "light" });
    if (place !== at) await page.goto(`http://${gateways[place = at]}/`);
    await open(page);
    for (const theme of ["light", "dark"] as const) {
      await page.look({ width, height, theme });
      // Charts are drawn a frame later.
      await page.evaluate("new Promise((done) => setTimeout(done, 100))");
      const whole = !await page.evaluate('!!document.querySelector("dialog[open]")');
      await Deno.writeFile(
        join(folder, `${name}-${device}-${theme}.png`),
        await page.screenshot({ whole }),
      );
    }
  }
}
console.log(`Pictures are in ${folder}`);
