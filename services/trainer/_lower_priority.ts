import { readlinkSync } from "node:fs";
import { giveWay } from "../../runtime/mod.ts";

/** Lets this thread, and those it starts from now on, give way to the others of the process. Elsewhere than on Linux nothing. */
export function lowerPriority(): void {
  if (Deno.build.os !== "linux") return;
  try {
    // "<process>/task/<thread>"
    giveWay(Number(readlinkSync("/proc/thread-self").split("/").at(-1)));
  } catch {
    // No /proc.
  }
}
