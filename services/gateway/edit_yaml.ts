import { type Document, isAlias, isMap, isSeq, visit, YAMLMap, YAMLSeq } from "yaml";
import { MAX_ALIASES, MAX_YAML } from "./read_yaml.ts";
import { snakeCase } from "./request_message.ts";

/** A field of a configuration, and what it is to be. */
export interface FieldChange {
  /** Names in camelCase and indices of lists. */
  readonly path: readonly (string | number)[];
  /** null or undefined: the field goes, and with it what would be empty around it. */
  readonly value: unknown;
}

/** Where a field stands, or would. */
interface Place {
  readonly parent: YAMLMap | YAMLSeq;
  /** As it is written there: the contract's own name, in snake_case, serves as well. */
  readonly name: string | number;
}

/**
 * The text of a YAML document with fields changed, in place. Comments and what is not changed stay as they were
 * written, names too, but for the spaces before comments. Throws `RangeError` for an index that is beyond its list, and
 * where aliases would be copied without end.
 */
export function editYaml(document: Document, changes: readonly FieldChange[]): string {
  const copies = new Copies(document);
  for (const { path, value } of changes) {
    const places: Place[] = [];
    let node = root(document);
    for (const [i, name] of path.entries()) {
      const place = placeIn(node, name);
      places.push(place);
      const inner = path[i + 1];
      if (inner !== undefined) node = open(document, place, { inner, copies });
    }
    const last = places.at(-1);
    if (last === undefined) continue;
    if (value === null || value === undefined) remove(places);
    else last.parent.set(last.name, document.createNode(value));
  }
  // An empty document is written as "{}" or "null".
  const empty = isMap(document.contents) && document.contents.items.length === 0;
  return empty || document.contents === null ? "" : document.toString({ lineWidth: 0 });
}

/** What aliases stand for, as copies; as many and as long as a text may be that is edited. */
class Copies {
  readonly #document: Document;
  #count = 0;
  #length = 0;

  constructor(document: Document) {
    this.#document = document;
  }

  /** A copy, without anchors: those behind it mean the original's. Undefined where it is no alias of a collection. */
  of(alias: unknown): YAMLMap | YAMLSeq | undefined {
    if (!isAlias(alias)) return undefined;
    if (++this.#count > MAX_ALIASES) {
      throw new RangeError(`More than ${MAX_ALIASES} aliases are changed`);
    }
    const node = alias.resolve(this.#document);
    const [start = 0, end = 0] = node?.range ?? [];
    this.#length += end - start;
    if (this.#length > MAX_YAML) {
      throw new RangeError(
        `Copies of what aliases stand for have more than ${MAX_YAML} characters`,
      );
    }
    const copy = node?.clone();
    if (!isMap(copy) && !isSeq(copy)) return undefined;
    visit(copy, {
      Value: (_, inner) => {
        delete inner.anchor;
      },
    });
    return copy;
  }
}

function root(document: Document): YAMLMap | YAMLSeq {
  const { contents } = document;
  if (isMap(contents) || isSeq(contents)) return contents;
  const made = new YAMLMap(document.schema);
  document.contents = made;
  return made;
}

function placeIn(parent: YAMLMap | YAMLSeq, name: string | number): Place {
  if (isSeq(parent)) {
    const { length } = parent.items;
    if (!(Number.isInteger(Number(name)) && Number(name) >= 0 && Number(name) <= length)) {
      throw new RangeError(
        `Index ${JSON.stringify(name)} of a list of ${length}, expected at most ${length}`,
      );
    }
    return { parent, name: Number(name) };
  }
  const snake = typeof name === "string" ? snakeCase(name) : name;
  return { parent, name: !parent.has(name) && parent.has(snake) ? snake : name };
}

/** Makes what stands at a place a collection of its own: of an alias a copy, of nothing an empty one. */
function open(
  document: Document,
  { parent, name }: Place,
  { inner, copies }: { readonly inner: string | number; readonly copies: Copies },
): YAMLMap | YAMLSeq {
  const node: unknown = parent.get(name, true);
  if (isMap(node) || isSeq(node)) return node;
  const made = copies.of(node) ??
    (typeof inner === "number" ? new YAMLSeq(document.schema) : new YAMLMap(document.schema));
  parent.set(name, made);
  return made;
}

/** Takes away what is last, and each around it that is then empty. */
function remove(places: readonly Place[]): void {
  for (const { parent, name } of places.toReversed()) {
    parent.delete(name);
    if (parent.items.length > 0) return;
  }
}
