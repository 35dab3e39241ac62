import type { GraphCost } from "../../autodiff/mod.ts";
import type { PieceGraphs, Pieces } from "../../models/diffusers/mod.ts";

/** Bytes of a process that runs networks before it has loaded any. */
export const ENGINE_BYTES = 200 * 2 ** 20;

/** Share of the memory that one piece may take, so that what else is loaded can stay. */
const PIECE_SHARE = 0.5;

/** Bytes a graph takes while it is loaded or runs; the runtime keeps those of its activations for the next run. */
export function footprint(
  { weightBytes, foldedBytes, loadBytes, activationBytes }: GraphCost,
): number {
  return Math.max(loadBytes, weightBytes + foldedBytes + activationBytes);
}

/** Bytes that running a network in pieces takes, one piece loaded at a time. */
export function piecesFootprint({ pieces, keptBytes }: Pieces): number {
  // Gradients of kept values are kept beside them.
  return 2 * keptBytes + Math.max(...pieces.map(pieceFootprint));
}

function pieceFootprint({ forward, gradient }: PieceGraphs): number {
  return Math.max(footprint(forward.cost), gradient ? footprint(gradient.graph.cost) : 0);
}

/**
 * Into how many segments pieces fall so that each takes at most half of `memory` bytes beside the values that are kept:
 * few pieces, since each but the last is computed twice, and the last as large as can be. `each` has every segment as a
 * piece of its own; several together take no more than their sum.
 */
export function pieceLengths(each: Pieces, memory: number): readonly number[] {
  const room = (memory - ENGINE_BYTES - 2 * each.keptBytes) * PIECE_SHARE;
  const lengths: number[] = [];
  let free = 0;
  for (const piece of each.pieces.toReversed()) {
    const bytes = pieceFootprint(piece);
    const [last] = lengths;
    if (last !== undefined && bytes <= free) {
      lengths[0] = last + 1;
      free -= bytes;
    } else {
      lengths.unshift(1);
      free = room - bytes;
    }
  }
  return lengths;
}
