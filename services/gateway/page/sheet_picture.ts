import { number } from "./format.ts";
import type { DrawnImage, SheetSection } from "./sheet_sections.ts";

/** Pixels of an image's side, of the space between images, and of a line of text. */
const [SIDE, GAP, LINE] = [256, 16, 20];
const COLUMNS = 4;
/** Lines that a prompt may take. */
const PROMPT_LINES = 2;
const FONT = "system-ui, sans-serif";
const BODY = `14px ${FONT}`;

/** What stands under an image, line by line. */
interface Caption {
  readonly prompt: readonly string[];
  /** Its seed and its rewards, all of them. */
  readonly facts: readonly string[];
}

/** A PNG of a sheet: images with prompt, seed and rewards under them, a heading above each part. */
export async function sheetPicture(sections: readonly SheetSection[]): Promise<Blob> {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  if (pen === null) throw new Error("This browser draws no pictures");
  pen.font = BODY;
  const captions = new Map(
    sections.flatMap(({ images }) => images).map((image) => [image, captionOf(pen, image)]),
  );
  const lines = Math.max(0, ...[...captions.values()].map((c) => c.prompt.length + c.facts.length));
  const row = SIDE + (lines + 1) * LINE;
  const heights = sections.map(({ title, images }) =>
    (title === "" ? 0 : 2 * LINE) + Math.ceil(images.length / COLUMNS) * row
  );
  canvas.width = GAP + COLUMNS * (SIDE + GAP);
  canvas.height = GAP + heights.reduce((a, b) => a + b, 0);
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
      url: image.url,
      caption: captions.get(image),
      x: GAP + n % COLUMNS * (SIDE + GAP),
      y: y + Math.floor(n / COLUMNS) * row,
    }));
    await Promise.all(places.map((place) => drawOne(pen, place)));
    top += heights[i] ?? 0;
  }
  const { promise, resolve, reject } = Promise.withResolvers<Blob>();
  canvas.toBlob((blob) => blob ? resolve(blob) : reject(new Error("The sheet is too large")));
  return await promise;
}

function captionOf(
  pen: CanvasRenderingContext2D,
  { prompt, seed, scores }: DrawnImage,
): Caption {
  const wrapped = wrap(pen, prompt.split(" "), " ");
  const last = wrapped.slice(PROMPT_LINES - 1).join(" ");
  const told = Object.entries(scores).map(([name, value]) => `${name} ${number(value, 3)}`);
  return {
    prompt: [...wrapped.slice(0, PROMPT_LINES - 1), ...last === "" ? [] : [cut(pen, last)]],
    facts: wrap(pen, [`seed ${seed}`, ...told], "  "),
  };
}

async function drawOne(
  pen: CanvasRenderingContext2D,
  { url, caption, x, y }: {
    readonly url: string;
    readonly caption: Caption | undefined;
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
  pen.font = BODY;
  const { prompt = [], facts = [] } = caption ?? {};
  for (const [n, line] of [...prompt, ...facts].entries()) {
    pen.fillStyle = n < prompt.length ? "#1f2430" : "#4a5162";
    pen.fillText(line, x, y + SIDE + 4 + n * LINE);
  }
}

/** Pieces in lines as wide as an image, each with as many as fit; a piece that is wider is cut. */
function wrap(
  pen: CanvasRenderingContext2D,
  pieces: readonly string[],
  space: string,
): string[] {
  const lines: string[] = [];
  for (const piece of pieces) {
    const longer = `${lines.at(-1)}${space}${piece}`;
    if (lines.length > 0 && pen.measureText(longer).width <= SIDE) lines.splice(-1, 1, longer);
    else lines.push(cut(pen, piece));
  }
  return lines;
}

function cut(pen: CanvasRenderingContext2D, text: string): string {
  if (pen.measureText(text).width <= SIDE) return text;
  const characters = [...text];
  while (characters.length > 0 && pen.measureText(`${characters.join("")}…`).width > SIDE) {
    characters.pop();
  }
  return `${characters.join("")}…`;
}
