import type { AttributeProto, FunctionProto, NodeProto } from "onnx-buf";
import { ImportError } from "../errors.ts";
import type { NodeImporter } from "./_node_importer.ts";
import { nodesNeeded } from "./_nodes_needed.ts";
import { functionKey, versionsOf } from "./_read_model.ts";
import { type Imported, Scope } from "./_scope.ts";

/** Functions that may be inside one another. */
const DEEPEST = 64;

/** Appends the nodes of a model's function, as if they stood where it is called. */
export function callFunction(
  importer: NodeImporter,
  { called, node, scope: outer }: {
    readonly called: FunctionProto;
    readonly node: NodeProto;
    readonly scope: Scope;
  },
): readonly Imported[] {
  const key = functionKey(called);
  if (outer.calls.includes(key)) {
    throw new ImportError(`Function "${called.name}" calls itself, which is not supported`);
  }
  if (outer.calls.length >= DEEPEST) {
    throw new ImportError(`Functions call one another more than ${DEEPEST} deep`);
  }
  const bindings = new Map<string, AttributeProto>();
  for (const a of [...called.attributeProto, ...outer.attributesOf(node)]) bindings.set(a.name, a);
  const own = versionsOf(called.opsetImport);
  const versions = own.size > 0 ? own : outer.versions;
  const scope = new Scope({ versions, bindings, calls: [...outer.calls, key] });
  if (node.input.length > called.input.length) {
    throw new ImportError(
      `Function "${called.name}" is given ${node.input.length} inputs, expected at most ${called.input.length}`,
    );
  }
  for (const [i, name] of called.input.entries()) {
    scope.define(name, outer.find(node.input[i] ?? ""));
  }
  const wanted = called.output.filter((_, i) => (node.output[i] ?? "") !== "");
  importer.nodes(nodesNeeded(called.node, wanted).nodes, scope);
  return called.output.map((name) => wanted.includes(name) ? scope.find(name) : undefined);
}
