/**
 * A command as the person who runs this one can type it: "drtune up" where this program has that name, "deno task drtune
 * up" where a task started it.
 *
 * @param words what stands behind the program's name
 */
export function typed(words: string): string {
  // `deno task` says by this variable from where it was called.
  const program = Deno.env.has("INIT_CWD") ? "deno task drtune" : "drtune";
  return `${program} ${words}`;
}
