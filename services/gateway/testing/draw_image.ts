import sharp from "sharp";

/**
 * A PNG to look at: coloured discs that a seed places, more alike left and right the further the training. Files in tests
 * are made, not stored.
 *
 * @param progress 0 (untrained) to 1 (mirror symmetric)
 */
export async function drawImage(
  { seed, progress, side = 96 }: {
    readonly seed: number;
    readonly progress: number;
    readonly side?: number;
  },
): Promise<Uint8Array<ArrayBuffer>> {
  let state = (seed + 1) * 2654435761 % 2 ** 32;
  const random = () => (state = (state * 1664525 + 1013904223) % 2 ** 32) / 2 ** 32;
  const hue = Math.floor(random() * 360);
  const discs = Array.from({ length: 5 }, (_, i) => {
    const [x, y, r] = [random() * 0.5, 0.15 + random() * 0.7, 0.06 + random() * 0.16];
    const mirrored = (1 - x) * progress + random() * (1 - progress);
    const colour = `hsl(${(hue + i * 47) % 360} 62% ${48 + i * 6}%)`;
    const twin = y * progress + random() * (1 - progress);
    return [[x, y, r, colour], [mirrored, twin, r, colour]] as const;
  }).flat();
  const circles = discs.map(([x, y, r, colour]) =>
    `<circle cx="${x * side}" cy="${y * side}" r="${r * side}" fill="${colour}" opacity="0.85"/>`
  );
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}">
    <rect width="100%" height="100%" fill="hsl(${hue} 34% 84%)"/>${circles.join("")}</svg>`;
  return new Uint8Array(await sharp(new TextEncoder().encode(svg)).png().toBuffer());
}
