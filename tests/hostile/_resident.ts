/** What became of an attack. */
export interface Outcome {
  readonly refused: number;
  readonly kinds: number;
  /** Resident bytes of the processes under attack after a tenth of it, five rounds at least. */
  readonly before: number;
  /** The same halfway between that and the end. */
  readonly middle: number;
  /** The same at the end. */
  readonly after: number;
  readonly seconds: number;
}

/** Runs every attempt in turn, `count` in all. An attempt rejects when it is not refused as it should be. */
export async function repeat(
  attempts: readonly (() => Promise<void>)[],
  { count, resident }: { readonly count: number; readonly resident: () => Promise<number> },
): Promise<Outcome> {
  const start = performance.now();
  const first = Math.max(Math.floor(count / 10), Math.min(count - 1, 5 * attempts.length));
  let [before, middle] = [0, 0];
  for (let i = 0; i < count; i++) {
    if (i === first) before = await resident();
    if (i === Math.floor((first + count) / 2)) middle = await resident();
    await attempts[i % attempts.length]?.();
  }
  const seconds = (performance.now() - start) / 1000;
  const after = await resident();
  return { refused: count, kinds: attempts.length, before, middle, after, seconds };
}

/** Runs attempts with files of a folder that is removed after them, in this process. */
export async function attackWithFiles(
  attemptsIn: (folder: string) => Promise<readonly (() => Promise<void>)[]>,
  count: number,
): Promise<Outcome> {
  const folder = await Deno.makeTempDir();
  try {
    return await repeat(await attemptsIn(folder), {
      count,
      resident: () => {
        // What is waiting to be collected is not held.
        Reflect.get(globalThis, "gc")?.();
        return residentBytes(Deno.pid);
      },
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Resident bytes of a process and all its children. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const own = 1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? NaN);
  const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  const each = children.trim().split(" ").filter(Boolean).map((child) =>
    residentBytes(Number(child))
  );
  return (await Promise.all(each)).reduce((sum, bytes) => sum + bytes, own);
}
