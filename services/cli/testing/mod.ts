/** What tests of whole command lines start. */
export { startPublishedHub } from "./published_hub.ts";
