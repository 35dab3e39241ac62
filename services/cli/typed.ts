import { relative, resolve } from "node:path";

/**
 * A command as the person who runs this one can type it: with the name that the launcher was started by ("./drtune up"),
 * "deno task drtune up" where a task started it, else "drtune up".
 *
 * @param words what stands behind the program's name
 */
export function typed(words: string): string {
  return `${program()} ${words}`;
}

/** The same for somebody who has gone to a folder first. */
export function typedIn(folder: string, words: string): string {
  const name = program();
  return `${name.startsWith(".") ? relative(folder, resolve(name)) : name} ${words}`;
}

function program(): string {
  // `deno task` says by INIT_CWD from where it was called.
  return Deno.env.get("DRTUNE_PROGRAM") ??
    (Deno.env.has("INIT_CWD") ? "deno task drtune" : "drtune");
}
