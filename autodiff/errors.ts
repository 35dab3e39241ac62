/** A graph that cannot be built: types that do not fit, unknown names, wrong attributes. */
export class GraphError extends Error {
  override readonly name = "GraphError";
}

/** A gradient that cannot be formed; the message names operator, node and the path to it. */
export class GradientError extends Error {
  override readonly name = "GradientError";
}

/** A model file that cannot be taken into a graph: damaged, too large, or with something that is not supported. */
export class ImportError extends Error {
  override readonly name = "ImportError";
}
