/** The numbers n of names "prefix.n.…", ascending. */
export function numbered(names: readonly string[], prefix: string): readonly number[] {
  const found = new Set<number>();
  for (const name of names) {
    if (!name.startsWith(`${prefix}.`)) continue;
    const number = /^\d{1,4}(?=\.)/.exec(name.slice(prefix.length + 1))?.[0];
    if (number !== undefined) found.add(Number(number));
  }
  return [...found].sort((a, b) => a - b);
}
