/**
 * Set by a parent that holds the other end of this process's stdin: its closing means the parent is gone, also where it
 * was killed, and Ctrl-C, which reaches a terminal's whole group of processes, is the parent's to act on.
 */
export const ENDS_WITH_STDIN = "DRTUNE_ENDS_WITH_STDIN";

/** Resolves when this process is told to end: by SIGTERM, by SIGINT, or by the end of its parent. */
export async function toldToEnd(): Promise<void> {
  const told = Promise.withResolvers<void>();
  const child = Deno.env.get(ENDS_WITH_STDIN) === "1";
  // Windows has no SIGTERM, and Deno throws there.
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", told.resolve);
  Deno.addSignalListener("SIGINT", () => {
    if (!child) told.resolve();
  });
  if (child) readToEnd().then(told.resolve);
  await told.promise;
}

async function readToEnd(): Promise<void> {
  const buffer = new Uint8Array(64);
  // A failure to read is an end as well.
  while (await Deno.stdin.read(buffer).catch(() => null) !== null);
}
