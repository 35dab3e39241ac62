/** A browser to look at the page with. */
export * from "./chromium.ts";
