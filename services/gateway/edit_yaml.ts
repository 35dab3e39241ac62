import { type Document, isAlias, isCollection, isMap, isSeq, parseDocument } from "yaml";
import { snakeCase } from "./request_message.ts";

/** A field of a configuration, and what it is to be. */
export interface FieldChange {
  /** Names in camelCase and indices of lists. */
  readonly path: readonly (string | number)[];
  /** null or undefined: the field goes, and with it what would be empty around it. */
  readonly value: unknown;
}

/**
 * A YAML text with fields changed. Comments and what is not changed stay as they were written, names too, but for the
 * spaces before comments. The text must be one that can be parsed.
 */
export function editYaml(text: string, changes: readonly FieldChange[]): string {
  const document = parseDocument(text);
  for (const { path, value } of changes) {
    const written = writtenPath(document, path);
    for (let depth = 1; depth < written.length; depth++) open(document, written.slice(0, depth));
    if (value !== null && value !== undefined) document.setIn(written, document.createNode(value));
    else remove(document, written);
  }
  // An empty document is written as "{}" or "null".
  const empty = isMap(document.contents) && document.contents.items.length === 0;
  return empty || document.contents === null ? "" : document.toString({ lineWidth: 0 });
}

/** A path in the names that the document has: the contract's own, in snake_case, serve as well. */
function writtenPath(
  document: Document,
  path: readonly (string | number)[],
): (string | number)[] {
  const written: (string | number)[] = [];
  for (const name of path) {
    const parent: unknown = written.length === 0
      ? document.contents
      : document.getIn(written, true);
    const snake = typeof name === "string" ? snakeCase(name) : name;
    written.push(isMap(parent) && !parent.has(name) && parent.has(snake) ? snake : name);
  }
  return written;
}

/** Makes what stands at a path a collection of its own: of an alias a copy, of nothing an empty one. */
function open(document: Document, path: readonly (string | number)[]): void {
  const node: unknown = document.getIn(path, true);
  if (node === undefined || isCollection(node)) return;
  const meant = isAlias(node) ? node.resolve(document)?.clone() : undefined;
  if (meant !== undefined && "anchor" in meant) delete meant.anchor;
  document.setIn(path, meant ?? document.createNode({}));
}

function remove(document: Document, path: readonly (string | number)[]): void {
  document.deleteIn(path);
  const around = path.slice(0, -1);
  if (around.length === 0) return;
  const parent: unknown = document.getIn(around, true);
  if ((isMap(parent) || isSeq(parent)) && parent.items.length === 0) remove(document, around);
}
