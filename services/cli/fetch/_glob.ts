/** A pattern of paths: "*" stands for anything within a folder, two stars and a slash for any folders or none. */
export function globToRegExp(pattern: string): RegExp {
  const source = pattern.replaceAll(
    /\*\*\/|\*|[^*]+/g,
    (part) => part === "**/" ? "(?:.*/)?" : part === "*" ? "[^/]*" : RegExp.escape(part),
  );
  return new RegExp(`^${source}$`);
}
