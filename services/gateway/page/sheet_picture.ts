import { number } from "./format.ts";
import type { DrawnImage, SheetSection } from "./sheet_sections.ts";

/** Pixels of an image's side, of the space between images, and of a line of text. */
const [SIDE, GAP, LINE] = [256, 16, 20];
const COLUMNS = 4;
/** Lines under an image: its prompt's two, and its seed with its rewards. */
const LINES = 3;
const ROW = SIDE + LINES * LINE + GAP;
const FONT = "system-ui, sans-serif";

/** A PNG of a sheet: images with prompt, seed and rewards under them, a heading above each part. */
export async function sheetPicture(sections: readonly SheetSection[]): Promise<Blob> {
  const heights = sections.map(({ title, images }) =>
    (title === "" ? 0 : 2 * LINE) + Math.ceil(images.length / COLUMNS) * ROW
  );
  const canvas = document.createElement("canvas");
  canvas.width = GAP + COLUMNS * (SIDE + GAP);
  canvas.height = GAP + heights.reduce((a, b) => a + b, 0);
  const pen = canvas.getContext("2d");
  if (pen === null) throw new Error("This browser draws no pictures");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.textBaseline = "top";
  let top = GAP;
  for (const [i, { title, images }] of sections.entries()) {
    let y = top;
    if (title !== "") {
      pen.font = `600 18px ${FONT}`;
      pen.fillStyle = "#1f2430";
      pen.fillText(title, GAP, y);
      y += 2 * LINE;
    }
    const places = images.map((image, n) => ({
      image,
      x: GAP + n % COLUMNS * (SIDE + GAP),
      y: y + Math.floor(n / COLUMNS) * ROW,
    }));
    await Promise.all(places.map((place) => drawOne(pen, place)));
    top += heights[i] ?? 0;
  }
  const { promise, resolve, reject } = Promise.withResolvers<Blob>();
  canvas.toBlob((blob) => blob ? resolve(blob) : reject(new Error("The sheet is too large")));
  return await promise;
}

async function drawOne(
  pen: CanvasRenderingContext2D,
  { image: { url, prompt, seed, scores }, x, y }: {
    readonly image: DrawnImage;
    readonly x: number;
    readonly y: number;
  },
): Promise<void> {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const { naturalWidth, naturalHeight } = picture;
  const scale = SIDE / Math.max(naturalWidth, naturalHeight);
  pen.imageSmoothingEnabled = scale < 1;
  const [width, height] = [scale * naturalWidth, scale * naturalHeight];
  pen.drawImage(picture, x + (SIDE - width) / 2, y + (SIDE - height) / 2, width, height);
  pen.font = `14px ${FONT}`;
  pen.fillStyle = "#1f2430";
  wrapped(pen, prompt).forEach((line, n) => pen.fillText(line, x, y + SIDE + 4 + n * LINE));
  const told = Object.entries(scores).map(([name, value]) => `${name} ${number(value, 3)}`);
  pen.fillStyle = "#4a5162";
  const facts = cut(pen, [`seed ${seed}`, ...told].join("  "));
  pen.fillText(facts, x, y + SIDE + 4 + (LINES - 1) * LINE);
}

/** At most two lines as wide as an image; what does not fit is cut. */
function wrapped(pen: CanvasRenderingContext2D, text: string): string[] {
  const words = text.split(" ");
  let count = words.length;
  while (count > 1 && pen.measureText(words.slice(0, count).join(" ")).width > SIDE) count--;
  const rest = words.slice(count).join(" ");
  return [cut(pen, words.slice(0, count).join(" ")), ...rest === "" ? [] : [cut(pen, rest)]];
}

function cut(pen: CanvasRenderingContext2D, text: string): string {
  if (pen.measureText(text).width <= SIDE) return text;
  const characters = [...text];
  while (characters.length > 0 && pen.measureText(`${characters.join("")}…`).width > SIDE) {
    characters.pop();
  }
  return `${characters.join("")}…`;
}
