import { createHash, timingSafeEqual } from "node:crypto";
import { HttpError } from "./http_error.ts";

/** Throws `HttpError` 401 unless the header is "Bearer <token>". Takes the same time wherever they differ. */
export function checkBearer(header: string | undefined, token: string): void {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  if (header !== undefined && timingSafeEqual(digest(header), digest(`Bearer ${token}`))) return;
  throw new HttpError(
    "UNAUTHENTICATED",
    `${
      header === undefined ? "No" : "Wrong"
    } token: send the header "authorization: Bearer <token>"`,
    { headers: { "www-authenticate": 'Bearer realm="DRTune"' } },
  );
}
