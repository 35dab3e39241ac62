import type { GraphCost } from "../../compile/mod.ts";
import type { PieceGraphs, Pieces } from "../../models/diffusers/mod.ts";

/** Bytes of a process that runs networks before it has loaded any. */
export const ENGINE_BYTES = 128 * 2 ** 20;

/**
 * What the runtime takes beside what a graph's shapes say, measured on graphs of 0.1 to 4 GB and then rounded up, so that
 * a process stays within its limit: weights packed for the kernels are padded.
 */
const PACKED = 1.06;
/** What is folded is held in other layouts too while it is loaded, as much again each time. */
const FOLDING = 2;
/** Gaps between activations that stay, which the allocator holds as well: a factor of their bytes. */
const ALLOCATED = 1.1;
/**
 * Freed activations that are too small for later ones, or lie between others, stay with the allocator: as much as the
 * largest so many times, and small ones.
 */
const GAPS = 3;
const SMALL = 64 * 2 ** 20;

/** Bytes a graph takes while it is loaded or runs; the runtime keeps those of its activations for the next run. */
export function footprint(
  { weightBytes, foldedBytes, loadBytes, activationBytes, largestBytes, outputBytes }: GraphCost,
): number {
  return Math.max(
    loadBytes + FOLDING * foldedBytes,
    PACKED * (weightBytes + foldedBytes) +
      ALLOCATED * activationBytes + Math.min(activationBytes, GAPS * largestBytes + SMALL) +
      outputBytes,
  );
}

/** Bytes that running a network in pieces takes, one piece loaded at a time. */
export function piecesFootprint({ pieces, keptBytes }: Pieces): number {
  return keptBytes + Math.max(...pieces.map(pieceFootprint));
}

function pieceFootprint({ forward, gradient }: PieceGraphs): number {
  return Math.max(footprint(forward.cost), gradient ? footprint(gradient.graph.cost) : 0);
}

/**
 * Into how many segments pieces fall so that each takes at most `memory` bytes, with the values that are kept: few, and
 * the last as large as can be, since every other is computed twice. `cut` cuts the network, by default into single
 * segments. Where a single segment takes more, pieces are no larger than that one: the least that can be done.
 */
export function pieceLengths(
  cut: (lengths?: readonly number[]) => Pieces,
  memory: number,
): readonly number[] {
  const each = cut();
  const room = Math.max(
    memory - ENGINE_BYTES - each.keptBytes,
    // Where one segment takes more, others may take as much: the fewer the pieces, the less is kept.
    Math.max(...each.pieces.map(pieceFootprint)),
  );
  const count = each.pieces.length;
  let [fits, tooMany] = [1, count + 1];
  while (tooMany - fits > 1) {
    const length = fits + tooMany >> 1;
    const last = cut(length === count ? [count] : [count - length, length]).pieces.at(-1);
    if (last !== undefined && pieceFootprint(last) <= room) fits = length;
    else tooMany = length;
  }
  const lengths = [fits];
  // Several together take no more than their sum.
  let free = 0;
  for (const piece of each.pieces.slice(0, count - fits).toReversed()) {
    const bytes = pieceFootprint(piece);
    if (lengths.length > 1 && bytes <= free) lengths[0] = (lengths[0] ?? 0) + 1;
    else lengths.unshift(1);
    free = lengths[0] === 1 ? room - bytes : free - bytes;
  }
  return lengths;
}
