/** What the server said is wrong. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly field: string | undefined;
  readonly line: number | undefined;

  constructor(
    status: number,
    { code, message, field, line }: {
      readonly code?: string;
      readonly message?: string;
      readonly field?: string;
      readonly line?: number;
    },
  ) {
    super(message ?? `The server answered ${status}`);
    [this.status, this.code, this.field, this.line] = [status, code ?? "UNKNOWN", field, line];
  }
}

/** Whether the same request may be taken another time: the server is away, full or broken, and has not judged what was asked. */
export function mayPass(error: unknown): boolean {
  return !(error instanceof ApiError) || error.status === 408 || error.status === 429 ||
    error.status >= 500;
}

/** One event of a stream. */
export interface StreamEvent {
  readonly event: string;
  readonly data: unknown;
}

const TOKEN_KEY = "drtune-token";

/** Announced on `window` when the server asks for a token, or for another one. */
export const TOKEN_WANTED = "drtune-token-wanted";

/** Remembers the token until the tab is closed. */
export function setToken(token: string): void {
  sessionStorage.setItem(TOKEN_KEY, token);
}

/** What a request may have. */
export interface RequestOptions {
  readonly method?: string;
  /** Sent as JSON; text as it is, with `type`. */
  readonly body?: unknown;
  readonly type?: string;
  readonly signal?: AbortSignal;
}

/** Asks the server. Throws `ApiError` for anything but success, `TypeError` when it cannot be reached. */
export async function request(
  path: string,
  { method, body, type = "application/json", signal }: RequestOptions = {},
): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const response = await fetch(path, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: {
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { "content-type": type }),
    },
    ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    ...(signal && { signal }),
  });
  if (response.ok) return response;
  if (response.status === 401) dispatchEvent(new Event(TOKEN_WANTED));
  const answer = await response.json().catch(() => ({}));
  throw new ApiError(response.status, answer.error ?? {});
}

/** Asks for JSON. */
export async function json<T>(path: string, options?: RequestOptions): Promise<T> {
  return await (await request(path, options)).json();
}

/** The server breaks its silence every 15 s: after this long there is nobody any more. */
const SILENCE_MS = 45_000;

/** Reads a stream of events to its end. An "error" event is thrown; a connection that breaks is a `TypeError`. */
export async function* events(path: string, options?: RequestOptions): AsyncIterable<StreamEvent> {
  const { body } = await request(path, options);
  if (body === null) return;
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    while (true) {
      const silent = setTimeout(() => void reader.cancel(), SILENCE_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(silent));
      if (done) throw new TypeError("The connection was lost");
      text += value;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const parsed = parseEvent(text.slice(0, end));
        if (parsed === undefined) continue;
        if (parsed.event === "end") return;
        if (parsed.event === "error") throw new ApiError(500, JSON.parse(parsed.data).error);
        yield { event: parsed.event, data: JSON.parse(parsed.data) };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** An event's text; undefined for a comment. */
export function parseEvent(text: string): { event: string; data: string } | undefined {
  let event = "message";
  const data: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice("event: ".length);
    if (line.startsWith("data: ")) data.push(line.slice("data: ".length));
  }
  return data.length === 0 ? undefined : { event, data: data.join("\n") };
}

/** Images fetched with the token, as blob URLs that live as long as the view. */
export class Images {
  readonly #urls = new Map<string, Promise<string>>();

  constructor(signal: AbortSignal) {
    signal.addEventListener("abort", () => {
      for (const url of this.#urls.values()) url.then(URL.revokeObjectURL, () => {});
      this.#urls.clear();
    });
  }

  /** Puts an image in place; a text stands in for one that cannot be had. */
  show(image: HTMLImageElement, path: string): void {
    if (image.dataset["path"] === path) return;
    image.dataset["path"] = path;
    image.removeAttribute("data-failed");
    this.#url(path).then((url) => {
      // Another one may have been asked for in the meantime.
      if (image.dataset["path"] === path) image.src = url;
    }, () => {
      this.#urls.delete(path);
      if (image.dataset["path"] !== path) return;
      image.dataset["failed"] = "";
      delete image.dataset["path"];
    });
  }

  #url(path: string): Promise<string> {
    const url = this.#urls.get(path) ??
      request(path).then((response) => response.blob()).then((blob) => URL.createObjectURL(blob));
    this.#urls.set(path, url);
    return url;
  }
}

/** A path of the API; what is not part of it is escaped. */
export function runPath(runId: string, rest = ""): string {
  return `/v1/runs/${encodeURIComponent(runId)}${rest}`;
}

/** Where a sample image is. */
export function imagePath(runId: string, path: string): string {
  return runPath(runId, `/images/${path.split("/").map(encodeURIComponent).join("/")}`);
}
