/**
 * A text of at most `max` UTF-16 units, with "…" behind it where it was longer. No character is cut in two: half of one
 * cannot be written in UTF-8, and what tries to may throw.
 */
export function cut(text: string, max: number): string {
  if (text.length <= max) return text;
  const isWithin = /[\ud800-\udbff]/.test(text.charAt(max - 1));
  return `${text.slice(0, isWithin ? max - 1 : max)}…`;
}
