import assert from "node:assert/strict";
import { createLogger } from "../../../base/mod.ts";
import { serveGateway } from "../serve_gateway.ts";
import { BrowserPage, findChromium } from "./chromium.ts";
import { type FakeStack, startFakeStack } from "./fake_stack.ts";

/** What a test in a browser works with. */
export interface PageWorld {
  readonly page: BrowserPage;
  readonly stack: FakeStack;
  /** Takes the gateway away and back. */
  readonly restart: (whileAway: () => Promise<void>) => Promise<void>;
}

/** Opens the page of a gateway in front of a fake stack, in a real browser. Nothing may have been thrown in it at the end. */
export async function withPage(
  test: (world: PageWorld) => Promise<void>,
  { token }: { readonly token?: string } = {},
): Promise<void> {
  const chromium = findChromium();
  if (chromium === undefined) throw new Error("No Chromium");
  await using stack = await startFakeStack();
  const { address: trainer, rewards, runs } = stack;
  const log = createLogger({ level: "silent" });
  const serve = (port: number) =>
    serveGateway({ trainer, rewards, runs, port, log, ...(token && { token }) });
  let gateway = await serve(0);
  const restart = async (whileAway: () => Promise<void>) => {
    const port = Number(gateway.address.split(":").at(-1));
    await gateway.stop({ drainSeconds: 0 });
    await whileAway();
    gateway = await serve(port);
  };
  try {
    await using page = await BrowserPage.open(chromium);
    await page.goto(`http://${gateway.address}/`);
    await test({ page, stack, restart });
    assert.deepEqual(page.faults, []);
  } finally {
    await gateway.stop({ drainSeconds: 0 });
  }
}
