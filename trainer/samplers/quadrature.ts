/**
 * Weights of values at `nodes` in an integral from `low` to `high`: of each node's Lagrange polynomial, exact where the
 * integrand is a polynomial of a degree below the number of nodes. They add up to high - low; one may have the other
 * sign. Nodes are distinct.
 */
export function quadratureWeights(nodes: readonly number[], low: number, high: number): number[] {
  return nodes.map((own) => {
    // The polynomial's coefficients, constant first, in distances from `low`: numbers stay small.
    let polynomial = [1];
    for (const other of nodes) {
      if (other === own) continue;
      const [root, scale] = [other - low, 1 / (own - other)];
      const next = new Array<number>(polynomial.length + 1).fill(0);
      for (const [i, c] of polynomial.entries()) {
        next[i] = (next[i] ?? 0) - root * scale * c;
        next[i + 1] = (next[i + 1] ?? 0) + scale * c;
      }
      polynomial = next;
    }
    const width = high - low;
    return polynomial.reduce((sum, c, i) => sum + c * width ** (i + 1) / (i + 1), 0);
  });
}
