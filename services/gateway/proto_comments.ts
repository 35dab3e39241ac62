/** Comments of a `.proto` file, by the full name of what they stand above: message, field, enum, value or rpc. */
export type ProtoComments = ReadonlyMap<string, string>;

/** Reads comments of the project's own `.proto` files, where each stands in whole lines above its subject. */
export function parseProtoComments(sources: readonly string[]): ProtoComments {
  return new Map(sources.flatMap(commentsOf));
}

function commentsOf(source: string): [name: string, comment: string][] {
  const comments = new Map<string, string>();
  const scopes: string[] = [];
  let pending: string[] = [];
  for (const line of source.split("\n").map((line) => line.trim())) {
    const comment = /^\/\/ ?(.*)$/.exec(line)?.[1];
    if (comment !== undefined) {
      pending.push(comment);
      continue;
    }
    const packageName = /^package ([\w.]+);/.exec(line)?.[1];
    if (packageName !== undefined) scopes.push(packageName);
    const block = /^(message|enum|service|oneof|rpc) (\w+)/.exec(line);
    const name = block?.[2] ?? /(\w+) = \d+/.exec(line)?.[1];
    if (name !== undefined && pending.length > 0) {
      comments.set([...scopes, name].join("."), paragraph(pending));
    }
    // A oneof is no scope of its own: its fields belong to the message.
    if (line.endsWith("{")) scopes.push(block?.[1] === "oneof" ? "" : name ?? "");
    else if (line === "}") scopes.pop();
    pending = [];
  }
  return [...comments].map(([name, text]) => [name.replaceAll("..", "."), text]);
}

function paragraph(lines: readonly string[]): string {
  return lines.join("\n").replaceAll(/(?<!\n)\n(?![\n ])/g, " ");
}
