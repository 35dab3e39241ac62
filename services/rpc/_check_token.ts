import { createHash, timingSafeEqual } from "node:crypto";
import { StatusError } from "./errors.ts";

/** UNAUTHENTICATED unless the header is "Bearer <token>". Takes the same time wherever they differ. */
export function checkToken(header: string | undefined, token: string): StatusError | undefined {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  if (header !== undefined && timingSafeEqual(digest(header), digest(`Bearer ${token}`))) {
    return undefined;
  }
  return new StatusError(
    "UNAUTHENTICATED",
    `${header === undefined ? "No" : "Wrong"} token: send metadata "authorization: Bearer <token>"`,
  );
}
