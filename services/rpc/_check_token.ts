import { createHash, timingSafeEqual } from "node:crypto";
import { StatusError } from "./errors.ts";

/** Throws UNAUTHENTICATED unless the header is "Bearer <token>". Takes the same time wherever they differ. */
export function checkToken(header: string | undefined, token: string): void {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  if (header !== undefined && timingSafeEqual(digest(header), digest(`Bearer ${token}`))) return;
  throw new StatusError(
    "UNAUTHENTICATED",
    `${header === undefined ? "No" : "Wrong"} token: send metadata "authorization: Bearer <token>"`,
  );
}
