import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BrowserPage, findChromium } from "../../services/gateway/testing/mod.ts";
import { Service } from "./_service.ts";

const chromium = findChromium();
const ZOO = fileURLToPath(new URL("../../zoo", import.meta.url));

/** Longer than the test looks on; the gateway fills in the reward's address. */
const PRESET = `# The embedded pipeline, as small as it goes.
model: pipeline
method: { name: drtune, k: 1, m: 1 }
sampler: { kind: ddpm, steps: 4 }
guidance: { scale: 5 }
lora: { rank: 4 }
optimizer: { learningRate: 2.0e-3 }
batch: { size: 2 }
iterations: 500
sampleEvery: 3
prompts: { list: { prompts: [a fox, a boat, a cactus, a clock] } }
heldOutPrompts: { list: { prompts: [a koala, a turtle] } }
rewards:
  - { name: symmetry, endpoint: "127.0.0.1:50051" }
`;

/** Real processes: two reward servers, the trainer, the gateway. */
async function startStack(folder: string, stack: AsyncDisposableStack): Promise<string> {
  const runs = join(folder, "runs");
  await Deno.mkdir(join(folder, "presets"));
  await Deno.writeTextFile(join(folder, "presets", "tiny.yaml"), PRESET);
  const start = async (...args: Parameters<typeof Service.start>) =>
    stack.use(await Service.start(...args));
  const clip = { kind: "clip", weights: join(ZOO, "rewards", "clip") };
  const [trainer, ...rewards] = await Promise.all([
    start("trainer", ["--models", ZOO, "--runs", runs, "--threads", "1"]),
    start("reward", ["--reward", "symmetry"]),
    start("reward", ["--reward", JSON.stringify(clip)]),
  ]);
  const names = ["symmetry", "clip"].map((name, i) => `${name}=${rewards[i]?.address}`);
  const gateway = await start("gateway", [
    ...["--trainer", trainer.address, "--rewards", names.join(","), "--runs", runs],
    ...["--presets", join(folder, "presets")],
  ]);
  return gateway.address;
}

Deno.test({
  name:
    "In a browser, with real services: a run is started, its curves move, a reward is swapped, " +
    "checkpoints are compared blind",
  ignore: chromium === undefined,
  async fn() {
    if (chromium === undefined) return;
    const folder = await Deno.makeTempDir();
    await using stack = new AsyncDisposableStack();
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    const gateway = await startStack(folder, stack);
    await using page = await BrowserPage.open(chromium);
    await page.goto(`http://${gateway}/`);

    await page.click("Start a run");
    await page.fill('input[type="text"]', "tiny");
    await page.until('document.body.innerText.includes("The configuration can be read.")');
    await page.click("Start");
    await page.until('location.hash === "#/runs/tiny"');

    const curve = 'document.querySelector(".curve")?.getAttribute("d")';
    const first = await page.until(curve);
    await page.until(`${curve} !== ${JSON.stringify(first)}`);

    // A second reward from a server of its own joins the first: it gets a chart, and all charts a marker.
    await page.click("Change rewards");
    await page.click("Add a reward");
    const added = 'document.querySelector("dialog .reward-term:last-child select").selectedOptions';
    await page.until(`${added}[0].textContent.includes("clip")`);
    await page.click("Change");
    const titles =
      '[...document.querySelectorAll(".chart-title")].map((t) => t.textContent).join()';
    await page.until(`${titles} === "symmetry,clip,loss,gradient norm"`);
    await page.until('document.querySelectorAll(".marker").length === 4');
    await page.until(`document.body.innerText.includes("weight 1, larger is better")`);
    const saved = 'document.querySelector(".tiles").innerText.match(/Checkpoint\\s+step (\\d+)/)';
    await page.click("Save now");
    await page.until(saved);

    // Pictures of a later step stand over those of step 0, and they are not the same.
    const drawn =
      '[...document.querySelectorAll(".samples img")].filter((i) => i.naturalWidth > 0)';
    await page.until(`new Set(${drawn}.map((i) => i.src)).size === 4`);
    await page.click("Stop");
    await page.until('!!document.querySelector(".state-stopped")');

    await page.click("Compare");
    await page.click("Judge blind");
    await page.fill(".narrow textarea", "# animals\na fox\n# things\na clock");
    await page.click("Begin");
    for (const [i, key] of ["ArrowLeft", "ArrowRight"].entries()) {
      await page.until(`document.querySelector(".pair")?.dataset.pair === "${i}"`);
      await page.until(
        '[...document.querySelectorAll(".pair img")].filter((i) => i.naturalWidth === 64).length === 2',
      );
      const shown = await page.evaluate('document.querySelector("main").innerHTML');
      assert.doesNotMatch(String(shown), /tiny|heckpoint|LoRA/);
      await page.press(key);
    }
    const results = String(await page.until('document.querySelector(".results")?.innerText'));
    assert.match(results, /tiny, without LoRA[\s\S]*tiny, checkpoint \d+/);
    assert.match(results, /animals[\s\S]*things[\s\S]*all\t[012]\t0\t[012]\t\d+ %\t\d+ % to \d+ %/);
    assert.deepEqual(page.faults, []);
  },
});
