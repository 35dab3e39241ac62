/**
 * A command as the person who runs this one can type it: with the name that the launcher was started by ("./drtune up"),
 * "deno task drtune up" where a task started it, else "drtune up".
 *
 * @param words what stands behind the program's name
 */
export function typed(words: string): string {
  // `deno task` says by INIT_CWD from where it was called.
  const program = Deno.env.get("DRTUNE_PROGRAM") ??
    (Deno.env.has("INIT_CWD") ? "deno task drtune" : "drtune");
  return `${program} ${words}`;
}
