/** Names a Chromium may have. */
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Where a Chromium is: the one DRTUNE_CHROMIUM names, or one on the PATH; undefined where there is none. */
export function findChromium(): string | undefined {
  const named = Deno.env.get("DRTUNE_CHROMIUM");
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  const places = folders.flatMap((folder) => NAMES.map((name) => `${folder}/${name}`));
  return [...(named ? [named] : []), ...places].find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

/** A message of the Chrome DevTools Protocol. */
interface Message {
  readonly id?: number;
  readonly method?: string;
  // deno-lint-ignore no-explicit-any -- as many shapes as the protocol has methods
  readonly params?: any;
  // deno-lint-ignore no-explicit-any -- as many shapes as the protocol has methods
  readonly result?: any;
  readonly error?: { readonly message: string };
}

/** A node of the accessibility tree. */
interface AxNode {
  readonly ignored: boolean;
  readonly role?: { readonly value: string };
  readonly name?: { readonly value: string };
  readonly backendDOMNodeId: number;
}

/** Roles that make no sense without a name. */
const USABLE = new Set(
  [
    "button",
    "link",
    "textbox",
    "spinbutton",
    "slider",
    "combobox",
    "image",
    "dialog",
    "progressbar",
  ],
);

/** Longest the page may take until something is so. */
const PATIENCE_MS = 40_000;

/** A page in a browser of its own, driven over the Chrome DevTools Protocol. */
export class BrowserPage implements AsyncDisposable {
  /** What went wrong in the page: uncaught exceptions and messages of console.error. */
  readonly faults: string[] = [];
  readonly #process: Deno.ChildProcess;
  readonly #folder: string;
  readonly #socket: WebSocket;
  readonly #answers = new Map<number, PromiseWithResolvers<Message>>();
  readonly #closed = Promise.withResolvers<void>();
  #session: string | undefined;
  #nextId = 1;

  private constructor(process: Deno.ChildProcess, folder: string, socket: WebSocket) {
    [this.#process, this.#folder, this.#socket] = [process, folder, socket];
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => {
      this.#closed.resolve();
      for (const { reject } of this.#answers.values()) reject(gone());
    };
  }

  /** Opens a page. */
  static async open(chromium: string): Promise<BrowserPage> {
    const folder = await Deno.makeTempDir();
    const process = new Deno.Command(chromium, {
      args: [
        "--headless",
        "--remote-debugging-port=0",
        `--user-data-dir=${folder}`,
        // Containers have neither a sandbox nor much shared memory; the page is ours.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        // Nothing of the browser's own goes out.
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "about:blank",
      ],
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const socket = new WebSocket(await debuggerUrl(process));
    const opened = Promise.withResolvers<void>();
    socket.onopen = () => opened.resolve();
    await opened.promise;
    const page = new BrowserPage(process, folder, socket);
    const { targetId } = await page.#send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await page.#send("Target.attachToTarget", { targetId, flatten: true });
    page.#session = sessionId;
    await page.#send("Runtime.enable");
    await page.#send("Page.enable");
    return page;
  }

  async goto(url: string): Promise<void> {
    await this.#send("Page.navigate", { url });
  }

  /** Lets pages that are loaded from now on run scripts that their policy forbids. */
  async allowScripts(): Promise<void> {
    await this.#send("Page.setBypassCSP", { enabled: true });
  }

  /** How the page is looked at: its size in CSS pixels, with so many device pixels each, and the theme. */
  async look(
    { width, height, scale = 1, theme }: {
      readonly width: number;
      readonly height: number;
      readonly scale?: number;
      readonly theme: "light" | "dark";
    },
  ): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: scale, mobile: width < 500 };
    await this.#send("Emulation.setDeviceMetricsOverride", metrics);
    const features = [{ name: "prefers-color-scheme", value: theme }];
    await this.#send("Emulation.setEmulatedMedia", { features });
  }

  /** A PNG of what is seen, or of all of the page. */
  async screenshot(
    { whole = false }: { readonly whole?: boolean } = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { data } = await this.#send("Page.captureScreenshot", { captureBeyondViewport: whole });
    return Uint8Array.fromBase64(data);
  }

  /** What a screen reader meets that can be used and has no name: its role and HTML. */
  async unnamed(): Promise<string[]> {
    const { nodes } = await this.#send("Accessibility.getFullAXTree");
    const unnamed = nodes.filter((node: AxNode) =>
      !node.ignored && USABLE.has(node.role?.value ?? "") && !node.name?.value
    );
    return await Promise.all(unnamed.map(async ({ role, backendDOMNodeId }: AxNode) => {
      const { outerHTML } = await this.#send("DOM.getOuterHTML", {
        backendNodeId: backendDOMNodeId,
      });
      return `No name: ${role?.value} ${outerHTML.slice(0, 200)}`;
    }));
  }

  /** Presses a key, as "ArrowLeft". */
  async press(key: string): Promise<void> {
    for (const type of ["keyDown", "keyUp"]) {
      await this.#send("Input.dispatchKeyEvent", { type, key });
    }
  }

  /** A finger's way over an element, from its middle. */
  async swipe(
    selector: string,
    { dx, dy }: { readonly dx: number; readonly dy: number },
  ): Promise<void> {
    const box = await this.evaluate(
      `{ const { x, y, width, height } = document.querySelector(${JSON.stringify(selector)})` +
        ".getBoundingClientRect(); [x + width / 2, y + height / 2] }",
    );
    const [x, y] = Array.isArray(box) ? box.map(Number) : [];
    if (x === undefined || y === undefined) throw new Error(`${selector} is not there`);
    const touch = (type: string, touchPoints: { x: number; y: number }[]) =>
      this.#send("Input.dispatchTouchEvent", { type, touchPoints });
    await touch("touchStart", [{ x, y }]);
    for (const part of [0.5, 1]) {
      await touch("touchMove", [{ x: x + part * dx, y: y + part * dy }]);
    }
    await touch("touchEnd", []);
  }

  /**
   * The value of an expression in the page, when it is not undefined, null, false or "" any more. One that throws is
   * asked again: the page was left meanwhile, or what it reads is not there yet.
   */
  async until(expression: string): Promise<unknown> {
    const deadline = Date.now() + PATIENCE_MS;
    let fault: unknown;
    while (Date.now() < deadline) {
      try {
        fault = undefined;
        const value = await this.evaluate(expression);
        if (value) return value;
      } catch (error) {
        fault = error;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const seen = await this.evaluate("document.body.innerText");
    throw new Error(`Never true: ${expression}\nThe page says:\n${seen}`, { cause: fault });
  }

  /** The value of an expression in the page. Throws what it throws. */
  async evaluate(expression: string): Promise<unknown> {
    const options = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate", options);
    if (exceptionDetails) {
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    }
    return result.value;
  }

  /** Clicks the button or link that says so. */
  async click(text: string): Promise<void> {
    const within = "(document.querySelector('dialog[open]') ?? document)";
    const found = `[...${within}.querySelectorAll("button, a, summary")]` +
      `.find((e) => !e.hidden && e.textContent.trim() === ${JSON.stringify(text)})`;
    await this.until(`!!${found}`);
    await this.evaluate(`${found}.click()`);
  }

  /** Types into the field that a selector finds. */
  async fill(selector: string, text: string): Promise<void> {
    const found = `document.querySelector(${JSON.stringify(selector)})`;
    await this.until(`!!${found}`);
    await this.evaluate(
      `{ const e = ${found}; e.focus(); e.value = ${JSON.stringify(text)};` +
        `e.dispatchEvent(new Event("input", { bubbles: true })); }`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#send("Browser.close").catch(() => {});
    await this.#process.status;
    await this.#closed.promise;
    await Deno.remove(this.#folder, { recursive: true }).catch(() => {});
  }

  // deno-lint-ignore no-explicit-any -- as many shapes as the protocol has methods
  async #send(method: string, params: Record<string, unknown> = {}): Promise<any> {
    if (this.#socket.readyState !== WebSocket.OPEN) throw gone();
    const id = this.#nextId++;
    const answer = Promise.withResolvers<Message>();
    this.#answers.set(id, answer);
    const session = this.#session === undefined ? {} : { sessionId: this.#session };
    const whole = method.startsWith("Browser.") || method.startsWith("Target.");
    this.#socket.send(JSON.stringify({ id, method, params, ...(!whole && session) }));
    const { result, error } = await answer.promise;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  #take({ id, method, params, ...message }: Message): void {
    if (id !== undefined) {
      this.#answers.get(id)?.resolve(message);
      this.#answers.delete(id);
    } else if (method === "Runtime.exceptionThrown") {
      const { exception, text } = params.exceptionDetails;
      this.faults.push(exception?.description ?? text);
    } else if (method === "Runtime.consoleAPICalled" && params.type === "error") {
      this.faults.push(JSON.stringify(params.args));
    }
  }
}

function gone(): Error {
  return new Error("The browser has ended or closed its connection");
}

/** Chromium says on stderr where it listens. The rest is read, or it would stop when the pipe is full. */
async function debuggerUrl({ stderr }: Deno.ChildProcess): Promise<string> {
  const found = Promise.withResolvers<string>();
  const read = async () => {
    let text = "";
    for await (const chunk of stderr.pipeThrough(new TextDecoderStream())) {
      text = (text + chunk).slice(-10_000);
      const url = /DevTools listening on (ws:\S+)/.exec(text)?.[1];
      if (url !== undefined) found.resolve(url);
    }
    found.reject(new Error(`Chromium ended: ${text}`));
  };
  void read();
  return await found.promise;
}
