/** A record of the same keys with every value mapped. */
export function mapValues<K extends string, T, U>(
  record: Readonly<Record<K, T>>,
  map: (value: T, name: string) => U,
): Record<K, U>;
export function mapValues<T, U>(
  record: Readonly<Record<string, T>>,
  map: (value: T, name: string) => U,
): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([name, v]) => [name, map(v, name)]));
}
