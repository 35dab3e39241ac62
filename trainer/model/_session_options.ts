import type { Compiled } from "../../compile/mod.ts";
import type { SessionOptions } from "../../runtime/mod.ts";

/** How a graph is loaded: as it was compiled to be, and as `options` say besides. */
export function sessionOptions(
  { sessionOptions }: Pick<Compiled, "sessionOptions">,
  options: SessionOptions,
): SessionOptions {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { ...sessionOptions, ...Object.fromEntries(given) };
}
