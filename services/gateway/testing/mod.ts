/** A browser to look at the page with, and what there is to see. */
export * from "./chromium.ts";
export * from "./page_views.ts";
export * from "./with_page.ts";
