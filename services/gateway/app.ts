import { type Context, Hono } from "hono";
import { etag } from "hono/etag";
import { methodNotAllowed } from "hono/method-not-allowed";
import { routePath } from "hono/route";
import { secureHeaders } from "hono/secure-headers";
import type { Logger } from "../../base/mod.ts";
import { bodyLimit, type HeldBodies } from "./body_limit.ts";
import { checkBearer } from "./check_bearer.ts";
import { checkLoopbackHost, checkSameSite } from "./check_same_site.ts";
import { HttpError, toHttpError } from "./http_error.ts";
import type { GatewayMetrics } from "./gateway_metrics.ts";
import type { PageFile } from "./page_files.ts";
import type { Route } from "./route.ts";

/** Bodies of routes that say nothing else. */
const MAX_BODY_BYTES = 2 ** 20;

/**
 * The gateway as a function from requests to responses.
 *
 * With a token every route of the table asks for it, but those that are open. The page's own files do not: they hold nothing but the program
 * that asks for the token.
 */
export function gatewayApp(
  { routes, held, page, token, loopback = false, metrics, log }: {
    readonly routes: readonly Route[];
    /** Counts the bytes of all bodies. */
    readonly held: HeldBodies;
    readonly page: ReadonlyMap<string, PageFile>;
    /** Default: none is asked for. */
    readonly token?: string;
    /** Only this machine reaches the server. */
    readonly loopback?: boolean;
    readonly metrics: GatewayMetrics;
    readonly log: Logger;
  },
): Hono {
  const app = new Hono();
  app.onError((error, { req: { method, path } }) =>
    answer(toHttpError(error, log, { method, path }))
  );

  app.use(async (context, next) => {
    const start = performance.now();
    await next();
    const { req, res } = context;
    const seconds = (performance.now() - start) / 1000;
    // Only what the table knows: labels that callers make up would be without number.
    const known = res.status !== 404 && res.status !== 405;
    metrics.observe({
      method: known ? req.method : "other",
      route: known ? routePath(context, -1) : "none",
      status: res.status,
      seconds,
    });
    log.debug("http", { method: req.method, path: req.path, status: res.status, seconds });
  });
  app.use(async (context, next) => {
    await next();
    // HEAD is answered as GET, and Hono drops the body without a word to whoever writes it.
    if (context.req.method === "HEAD") void context.res.body?.cancel().catch(() => {});
  });
  app.use(secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'", "blob:", "data:"],
      connectSrc: ["'self'"],
      formAction: ["'none'"],
      baseUri: ["'none'"],
      frameAncestors: ["'none'"],
    },
    xFrameOptions: "DENY",
    // Whether the host has TLS is for what stands in front to say.
    strictTransportSecurity: false,
  }));

  for (const [path, { body, type }] of page) {
    app.get(
      `/${path}`,
      etag(),
      ({ body: send }) => send(body, 200, { "content-type": type, "cache-control": "no-cache" }),
    );
  }
  app.get("/docs", (context) => context.redirect("/#/api"));
  const open = new Set(routes.filter(({ open }) => open).map(({ path }) => path));
  app.use(async ({ req }, next) => {
    if (token !== undefined) {
      if (!open.has(req.path)) checkBearer(req.header("authorization"), token);
    } else {
      checkSameSite(req.raw);
      if (loopback) checkLoopbackHost(req.raw);
    }
    await next();
  });
  app.use(methodNotAllowed({
    app,
    onMethodNotAllowed: ({ req }, methods) => {
      const allow = methods.filter((method) => method !== "HEAD").join(", ");
      const message = `Method is ${req.method}, expected ${allow}`;
      return answer(new HttpError("UNIMPLEMENTED", message, { status: 405, headers: { allow } }));
    },
  }));
  for (const { method, path, parameters = [], body, handle: answered } of routes) {
    const handle = method === "post"
      ? (context: Context) => {
        refuseQuery(context);
        return answered(context);
      }
      : answered;
    const pattern = path.replaceAll(
      /\{(\w+)\}/g,
      (_, name: string) =>
        parameters.some((p) => p.name === name && p.rest) ? `:${name}{.+}` : `:${name}`,
    );
    const maxBytes = body?.maxBytes ?? MAX_BODY_BYTES;
    if (method === "post" && maxBytes < Infinity) {
      app.post(pattern, bodyLimit({ maxBytes, held }), handle);
    } else if (path.includes("/images/")) app.get(pattern, etag(), handle);
    else app.on(method, pattern, handle);
  }
  app.notFound(({ req }) =>
    answer(new HttpError("NOT_FOUND", `No route ${req.method} ${req.path}; see /openapi.json`))
  );
  return app;
}

/** What is posted is said in the body: a field of the query would be passed over without a word. */
function refuseQuery({ req }: Context): void {
  const [field] = Object.keys(req.query());
  if (field === undefined) return;
  const message = `Field ${field} is in the query, expected in the body`;
  throw new HttpError("INVALID_ARGUMENT", message, { field });
}

function answer(error: HttpError): Response {
  return Response.json(error, { status: error.status, headers: error.headers });
}
