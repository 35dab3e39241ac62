import { RunState, WorkerState } from "../../../proto/mod.ts";
import { createLogger } from "../../../base/mod.ts";
import { serveGateway } from "../serve_gateway.ts";
import type { BrowserPage } from "./chromium.ts";
import { type FakeStack, startFakeStack } from "./fake_stack.ts";

/** Gateways to look at: with runs in every state, without runs, with a token, with a trainer that is away. */
export type GatewayName = "full" | "empty" | "locked" | "away";

/** A state of the page that somebody may look at. */
export interface PageView {
  readonly name: string;
  /** Default "full". */
  readonly at?: GatewayName;
  /** Goes there from wherever the page is. */
  readonly open: (page: BrowserPage) => Promise<unknown>;
}

const LONG_NAME = "a-very-long-name-of-a-run-which-a-sweep-made-0123456789.lr-1e-3";

/** Starts the gateways of the views. Answers their addresses. */
export async function startGateways(
  stack: AsyncDisposableStack,
): Promise<Readonly<Record<GatewayName, string>>> {
  const full = stack.use(await startFakeStack());
  await addRuns(full);
  const empty = stack.use(await startFakeStack());
  empty.trainer.delete("foxes");
  await empty.stopReward("clip");
  const log = createLogger({ level: "silent" });
  const serve = async (
    { address: trainer, rewards, runs }: Pick<FakeStack, "address" | "rewards" | "runs">,
    token?: string,
  ) => {
    const options = { trainer, rewards, runs, port: 0, log };
    const gateway = await serveGateway({ ...options, ...(token && { token }) });
    stack.defer(() => gateway.stop({ drainSeconds: 0 }));
    return gateway.address;
  };
  return {
    full: await serve(full),
    empty: await serve(empty),
    locked: await serve(full, "a-token-of-enough-characters"),
    away: await serve({ ...full, address: "127.0.0.1:9" }),
  };
}

/** Adds a run in every state, one with a name as long as it may be. */
async function addRuns({ trainer }: FakeStack): Promise<void> {
  const hardware = "cuda: NVIDIA H200, driver 570.86, onnxruntime-node@1.30.0";
  const modelSha256 = ["9f2c".repeat(16)];
  const busy = { hardware, modelSha256, runId: "foxes", jobsDone: 132n, secondsPerJob: 2.62 };
  trainer.workers = [
    { ...busy, name: "gpu-1", state: WorkerState.WORKING },
    { ...busy, name: "gpu-2", state: WorkerState.DRAINING, jobsDone: 7n },
    {
      ...{ hardware, name: "gpu-3", state: WorkerState.ASIDE, jobsFailed: 3n },
      reason: "Failed at 3 jobs in a row, the last time: Tensor 'eps.0' holds NaN",
    },
  ];
  const { PAUSED, FAILED, QUEUED, RUNNING } = RunState;
  const away = "Reward clip has not answered for 60 s: Cannot connect to 127.0.0.1:50052: " +
    "nothing listens there";
  await trainer.add({ id: "paused", steps: 23, state: PAUSED, reason: away });
  const reason = "Tensor 'eps.0' holds NaN at [0, 0, 0, 0] of shape [2, 4, 16, 16]";
  await trainer.add({ id: "failed", steps: 3, minutesAgo: 9000, state: FAILED, reason });
  await trainer.add({ id: "queued", state: QUEUED });
  await trainer.add({ id: LONG_NAME, steps: 37, minutesAgo: 3, state: RUNNING });
}

const shown = (selector: string) => `!!document.querySelector(${JSON.stringify(selector)})`;
const says = (text: string) => `document.body.innerText.includes(${JSON.stringify(text)})`;

/** Shows another view; a dialog that is open closes. */
async function go(page: BrowserPage, hash: string, until: string): Promise<void> {
  await page.evaluate(
    `document.querySelector("dialog")?.close(); location.hash = "#/runs"; location.hash = "#/${hash}"`,
  );
  await page.until(until);
}

const goToRun = (page: BrowserPage, id: string) =>
  go(page, `runs/${id}`, shown(".run-actions:not([hidden])"));

async function drawn(page: BrowserPage): Promise<void> {
  await goToRun(page, "foxes");
  const loaded = '[...document.querySelectorAll(".samples img")].filter((i) => i.naturalWidth > 0)';
  await page.until(`${loaded}.length === 8`);
}

async function dialog(page: BrowserPage, run: string, name: string): Promise<void> {
  await goToRun(page, run);
  await page.click(name);
  await page.until(shown("dialog[open]"));
}

async function compare(page: BrowserPage): Promise<void> {
  await go(page, "judge/foxes", shown(".narrow select"));
  await page.fill(
    ".narrow textarea",
    "# animals\na fox\nan owl\n# places\na pier at dusk\na street",
  );
}

async function judge(page: BrowserPage): Promise<void> {
  await compare(page);
  await page.click("Begin");
  await page.until('document.querySelectorAll(".pair img").length === 2');
}

/** Every view, and the states it may be in. */
export const PAGE_VIEWS: readonly PageView[] = [
  { name: "runs", open: (page) => go(page, "runs", says("foxes")) },
  {
    name: "run",
    open: async (page) => {
      await drawn(page);
      await page.fill(".scrub label:last-child input", "40");
    },
  },
  {
    name: "run-pointed-at",
    open: async (page) => {
      await drawn(page);
      await page.evaluate('document.querySelector(".plot").focus()');
      for (let i = 0; i < 9; i++) await page.press("ArrowLeft");
    },
  },
  {
    name: "run-unfolded",
    open: async (page) => {
      await drawn(page);
      await page.evaluate('document.querySelectorAll("details").forEach((d) => d.open = true)');
    },
  },
  { name: "run-going", open: (page) => goToRun(page, LONG_NAME) },
  ...["paused", "failed", "queued"].map((id) => ({
    name: `run-${id}`,
    open: (page: BrowserPage) => goToRun(page, id),
  })),
  { name: "run-unknown", open: (page) => go(page, "runs/nobody", says("No run nobody")) },
  { name: "resume", open: (page) => dialog(page, "foxes", "Resume") },
  { name: "delete", open: (page) => dialog(page, "foxes", "Delete") },
  {
    name: "swap",
    open: async (page) => {
      await dialog(page, LONG_NAME, "Change rewards");
      await page.click("Add a reward");
    },
  },
  {
    name: "sample",
    open: async (page) => {
      await dialog(page, "foxes", "Draw images");
      await page.fill(
        "dialog textarea",
        "a fox\na lighthouse at dusk, oil on canvas, very detailed",
      );
      await page.click("Draw");
      await page.until(says("2 images"));
    },
  },
  {
    name: "sample-scored",
    open: async (page) => {
      await dialog(page, "foxes", "Draw images");
      await page.fill("dialog textarea", "a fox\nan owl\na pier\na street\na bowl");
      await page.click("Draw");
      await page.until('document.querySelectorAll("dialog .score").length === 5');
      await page.evaluate(
        `{ const e = document.querySelector("dialog .sheet-controls select"); e.value = "symmetry";` +
          'e.dispatchEvent(new Event("change")); }',
      );
    },
  },
  {
    name: "viewer",
    open: async (page) => {
      await drawn(page);
      await page.evaluate('document.querySelector(".enlarge").click()');
      await page.until('document.querySelector(".viewed")?.naturalWidth > 0');
    },
  },
  {
    name: "evaluate",
    open: async (page) => {
      await dialog(page, "foxes", "Evaluate");
      await page.click("Measure");
      await page.until(says("pairs at equal prompts"));
    },
  },
  {
    name: "evaluate-going",
    open: async (page) => {
      await dialog(page, "foxes", "Evaluate");
      await page.evaluate(
        'document.querySelectorAll("dialog button").forEach((b) => b.ariaBusy = "true");' +
          'document.querySelector("dialog progress").hidden = false;',
      );
    },
  },
  { name: "download", open: (page) => dialog(page, "foxes", "Download LoRA") },
  {
    name: "sample-refused",
    open: async (page) => {
      await dialog(page, "foxes", "Draw images");
      await page.fill('dialog input[type="number"]', "-1");
      await page.click("Draw");
      await page.until(says("Field seed"));
    },
  },
  { name: "services", open: (page) => go(page, "services", says("Jobs a minute")) },
  { name: "new", open: (page) => go(page, "new", says("The configuration can be read.")) },
  {
    name: "new-unfolded",
    open: async (page) => {
      await go(page, "new", says("The configuration can be read."));
      await page.until(shown(".estimate .tiles"));
      await page.evaluate('document.querySelectorAll("details").forEach((d) => d.open = true)');
    },
  },
  {
    name: "new-refused",
    open: async (page) => {
      await go(page, "new", says("The configuration can be read."));
      await page.fill(".editor", "model: pipeline\nlora:\n  rank: many\n");
      await page.until(says("Line 3: "));
    },
  },
  {
    name: "compare",
    open: async (page) => {
      await go(page, `compare/foxes/paused/${LONG_NAME}`, shown(".final tbody tr:nth-child(3)"));
      const loaded = '[...document.querySelectorAll(".side-by-side img")]';
      await page.until(`${loaded}.filter((i) => i.naturalWidth > 0).length === 12`);
    },
  },
  { name: "judge", open: compare },
  { name: "judge-pairs", open: judge },
  {
    name: "judge-results",
    open: async (page) => {
      await judge(page);
      for (const [i, key] of ["ArrowLeft", "ArrowRight", "ArrowDown", "ArrowRight"].entries()) {
        await page.until(`document.querySelector(".pair")?.dataset.pair === "${i}"`);
        await page.press(key);
      }
      await page.until(shown(".results"));
    },
  },
  {
    name: "api",
    open: async (page) => {
      await go(page, "api", shown(".api details"));
      await page.evaluate(
        '[...document.querySelectorAll(".api details")].slice(1, 3).forEach((d) => d.open = true)',
      );
      await page.until(shown(".try"));
      await page.click("Send");
      await page.until(shown(".answer:not([hidden])"));
    },
  },
  {
    name: "token",
    at: "locked",
    open: async (page) => {
      await page.until(shown(".login"));
      await page.fill(".login input", "a-wrong-token-of-that-length");
      await page.click("Enter");
      await page.until(says("This is not the token."));
    },
  },
  { name: "runs-none", at: "empty", open: (page) => go(page, "runs", says("No runs yet")) },
  {
    name: "services-one-away",
    at: "empty",
    open: (page) => go(page, "services", says("does not")),
  },
  { name: "judge-none", at: "empty", open: (page) => go(page, "judge", says("No runs yet")) },
  { name: "runs-away", at: "away", open: (page) => go(page, "runs", says("as soon as")) },
  { name: "run-away", at: "away", open: (page) => go(page, "runs/foxes", says("It goes on here")) },
  { name: "services-away", at: "away", open: (page) => go(page, "services", says("does not")) },
];
