import { h } from "./dom.ts";

/** Longest a browser may take to begin a download. */
const LATE_MS = 60_000;

/** Hands something over as a file. */
export function saveFile(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), LATE_MS);
}
