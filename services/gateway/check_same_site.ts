import { HttpError } from "./http_error.ts";

/**
 * Throws `HttpError` 403 for a request that another site's page makes. Without a token nothing else keeps a page that
 * somebody has open from stopping runs on this machine.
 */
export function checkSameSite({ headers, url }: Request): void {
  const host = headers.get("host") ?? new URL(url).host;
  const origin = headers.get("origin");
  const site = headers.get("sec-fetch-site");
  const sameOrigin = origin === null || URL.parse(origin)?.host === host;
  if (sameOrigin && site !== "cross-site" && site !== "same-site") return;
  throw new HttpError(
    "PERMISSION_DENIED",
    `Request comes from ${origin ?? "another site"}, expected a page of ${host} itself`,
  );
}

/** Names that mean this machine. */
const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?$/i;

/**
 * Throws `HttpError` 403 unless the request is addressed to this machine by a name of its own: a name somebody else
 * points at 127.0.0.1 would make their page same-site (DNS rebinding). For a server that only this machine reaches.
 */
export function checkLoopbackHost({ headers, url }: Request): void {
  const host = headers.get("host") ?? new URL(url).host;
  if (LOOPBACK.test(host)) return;
  throw new HttpError("PERMISSION_DENIED", `Host is ${host}, expected localhost or 127.0.0.1`);
}
