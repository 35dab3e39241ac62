import { createHash } from "node:crypto";

/** What goes wrong, once each time it is named, with a file's content. */
export type Fault =
  | "broken"
  | "429"
  | "503"
  | "wrong content"
  | "401"
  | "silent"
  /** All of it, whichever range was asked for. */
  | "no ranges"
  | "too long"
  /** A redirect to itself. */
  | "circle"
  /** A redirect that leaves the protocol. */
  | "elsewhere";

/** A hub of a few repositories on this machine, with a store of large files at an origin of its own. */
export interface SmallHub extends AsyncDisposable {
  readonly url: string;
  /** Requests so far: method, path, range and whether a token came. */
  readonly seen: {
    readonly at: "hub" | "store";
    readonly path: string;
    readonly range: string;
    readonly token: boolean;
  }[];
  /** Of the coming answers, in their order. */
  readonly faults: Fault[];
}

export const COMMIT = "c0ffee0000000000000000000000000000000000";
export const REPO = "someone/model";

/** Files of a repository by their paths. */
export type HubFiles = Readonly<Record<string, Uint8Array<ArrayBuffer>>>;

/** Starts it with the files of `REPO`. Those of more than 1,000 bytes are in the store, by redirect, known by sha256. */
export function startHub(
  files: HubFiles,
  options: { readonly token?: string } = {},
): SmallHub {
  return startHubOf({ [REPO]: files }, options);
}

/** `startHub` with the files of each repository. */
export function startHubOf(
  repositories: Readonly<Record<string, HubFiles>>,
  { token }: { readonly token?: string } = {},
): SmallHub {
  const seen: SmallHub["seen"] = [];
  const faults: Fault[] = [];
  const isLarge = (bytes: Uint8Array) => bytes.length > 1000;
  const note = (at: "hub" | "store", request: Request) => {
    const { pathname } = new URL(request.url);
    seen.push({
      at,
      path: decodeURIComponent(pathname),
      range: request.headers.get("range") ?? "",
      token: request.headers.has("authorization"),
    });
    return decodeURIComponent(pathname);
  };
  const give = (request: Request, bytes: Uint8Array<ArrayBuffer>): Response => {
    const fault = faults.shift();
    if (fault === "429") {
      return new Response("slow down", { status: 429, headers: { "retry-after": "0" } });
    }
    if (fault === "503") return new Response("away", { status: 503 });
    if (fault === "401") return new Response("who are you", { status: 401 });
    if (fault === "circle") {
      faults.unshift(fault);
      return Response.redirect(request.url, 302);
    }
    if (fault === "elsewhere") return Response.redirect("ftp://127.0.0.1/file", 302);
    const range = fault === "no ranges" ? "" : request.headers.get("range") ?? "";
    const from = Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0);
    if (from >= bytes.length && from > 0) return new Response(null, { status: 416 });
    const rest = fault === "wrong content"
      ? bytes.slice(from).map((b) => b ^ 1)
      : bytes.slice(from);
    const cut = fault === "broken" || fault === "silent"
      ? rest.slice(0, Math.ceil(rest.length / 3))
      : rest;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(cut);
        if (fault === "too long") controller.enqueue(Uint8Array.of(1));
        if (fault === "broken") controller.error(new Error("cut off"));
        else if (fault !== "silent") controller.close();
      },
    });
    return new Response(body, { status: from > 0 ? 206 : 200 });
  };
  const store = Deno.serve({
    port: 0,
    hostname: "127.0.0.1",
    onListen: () => {},
    onError: () => new Response(null, { status: 500 }),
  }, (request) => {
    const [owner, name, ...rest] = note("store", request).slice(1).split("/");
    const bytes = repositories[`${owner}/${name}`]?.[rest.join("/")];
    return bytes === undefined ? new Response(null, { status: 404 }) : give(request, bytes);
  });
  const hub = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const path = note("hub", request);
    if (token !== undefined && request.headers.get("authorization") !== `Bearer ${token}`) {
      return Response.json({ error: "Access to this model is restricted" }, { status: 401 });
    }
    const repo = Object.keys(repositories).find((name) =>
      `${path}/`.startsWith(`/api/models/${name}/`) || path.startsWith(`/${name}/`)
    );
    const files = repositories[repo ?? ""];
    if (files === undefined) return Response.json({ error: "Not found" }, { status: 404 });
    if (path === `/api/models/${repo}` || path.startsWith(`/api/models/${repo}/revision/`)) {
      return Response.json({
        _id: "1",
        id: repo,
        modelId: repo,
        sha: COMMIT,
        private: false,
        gated: false,
        downloads: 1,
        likes: 1,
        lastModified: "2026-01-01T00:00:00.000Z",
      });
    }
    if (path === `/api/models/${repo}/tree/${COMMIT}`) {
      return Response.json(
        Object.entries(files).map(([path, bytes]) => ({
          type: "file",
          path,
          size: bytes.length,
          oid: createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex"),
          ...(isLarge(bytes) && {
            lfs: {
              oid: createHash("sha256").update(bytes).digest("hex"),
              size: bytes.length,
              pointerSize: 130,
            },
          }),
        })),
      );
    }
    const start = `/${repo}/resolve/${COMMIT}/`;
    const file = path.startsWith(start) ? path.slice(start.length) : "";
    const bytes = files[file];
    if (bytes === undefined) return Response.json({ error: "Not found" }, { status: 404 });
    return isLarge(bytes)
      ? Response.redirect(`http://127.0.0.1:${store.addr.port}/${repo}/${file}`, 302)
      : give(request, bytes);
  });
  return {
    url: `http://127.0.0.1:${hub.addr.port}`,
    seen,
    faults,
    [Symbol.asyncDispose]: async () => {
      await Promise.all([hub.shutdown(), store.shutdown()]);
    },
  };
}
