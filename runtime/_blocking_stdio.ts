/**
 * Reads from stdin and blocks the thread meanwhile: a process that answers frame by frame has nothing else to do, and it
 * takes half as long. Undefined at the end.
 */
export function readStdin(length: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const count = Deno.stdin.readSync(bytes.subarray(at));
    if (count === null) return Promise.resolve(undefined);
    at += count;
  }
  return Promise.resolve(bytes);
}

/** Writes all of it to stdout, and blocks the thread meanwhile. */
export function writeStdout(chunk: Uint8Array): void {
  for (let at = 0; at < chunk.length;) at += Deno.stdout.writeSync(chunk.subarray(at));
}
