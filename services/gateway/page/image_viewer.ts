import { button, h, replace, say } from "./dom.ts";
import { number } from "./format.ts";

/** An image that can be looked at by itself. */
export interface ViewedImage {
  /** The same in every row: what the image is of. */
  readonly key: string;
  readonly prompt: string;
  /** As "seed 3". */
  readonly detail: string;
  readonly scores: Readonly<Record<string, number>>;
  /** Puts the image in place. */
  readonly show: (image: HTMLImageElement) => void;
}

/** Images that belong together, such as those of a step. */
export interface ViewedRow {
  /** As "step 20"; "" where there is one row. */
  readonly label: string;
  readonly images: readonly ViewedImage[];
}

/** Pixels of a finger's way that mean another image. */
const SWIPE = 48;
/** Most device-independent pixels of a pixel. */
const LARGEST = 16;

/**
 * Shows images at full size, one at a time: left and right go through a row, up and down through the rows at the same
 * image, by keys, buttons or swipes; plus, minus and zero zoom.
 */
export function openViewer(
  rows: readonly ViewedRow[],
  start: { readonly row: number; readonly key: string },
): void {
  let { row, key } = start;
  /** CSS pixels of an image's pixel; undefined: as large as fits. */
  let scale: number | undefined;
  const image = h("img", { class: "viewed", draggable: "false", onload: () => showPixels() });
  const showPixels = () => {
    const { naturalWidth, naturalHeight, clientWidth, clientHeight } = image;
    const fits = Math.min(clientWidth / naturalWidth, clientHeight / naturalHeight);
    image.classList.toggle("enlarged", fits > 1);
  };
  const stage = h("div", { class: "viewer-stage", tabindex: -1 }, image);
  const place = h("p", { class: "viewer-place", role: "status" });
  const caption = h("div", { class: "viewer-caption" });
  const imagesNow = () => rows[row]?.images ?? [];
  const indexNow = () => Math.max(0, imagesNow().findIndex((one) => one.key === key));

  const show = () => {
    const images = imagesNow();
    const at = indexNow();
    const now = images[at];
    if (now === undefined) return;
    now.show(image);
    image.alt = `${now.prompt}, ${now.detail}`;
    const label = rows[row]?.label ?? "";
    say(
      place,
      [`${at + 1} of ${images.length}`, label, rows.length > 1 && `(${row + 1} of ${rows.length})`]
        .filter(Boolean).join(" "),
    );
    replace(
      caption,
      h("p", { class: "prompt" }, now.prompt),
      h(
        "p",
        { class: "sub" },
        now.detail,
        ...Object.entries(now.scores).map(([name, value]) =>
          h("span", { class: "score" }, ` ${name} `, h("b", {}, number(value, 4)))
        ),
      ),
    );
  };
  const across = (by: number) => {
    const images = imagesNow();
    key = images[(indexNow() + by + images.length) % images.length]?.key ?? key;
    show();
  };
  const along = (by: number) => {
    const next = row + by;
    if (rows[next]?.images.some((one) => one.key === key)) row = next;
    show();
  };
  const zoom = (to: number | undefined) => {
    scale = to === undefined ? undefined : Math.min(LARGEST, Math.max(0.125, to));
    stage.classList.toggle("zoomed", scale !== undefined);
    image.style.width = scale === undefined ? "" : `${image.naturalWidth * scale}px`;
    showPixels();
  };
  const larger = (by: number) =>
    zoom((scale ?? image.clientWidth / (image.naturalWidth || image.clientWidth || 1)) * by);

  const keys: Readonly<Record<string, () => void>> = {
    ArrowLeft: () => across(-1),
    ArrowRight: () => across(1),
    ArrowUp: () => along(-1),
    ArrowDown: () => along(1),
    "+": () => larger(2),
    "=": () => larger(2),
    "-": () => larger(0.5),
    "0": () => zoom(undefined),
    "1": () => zoom(1),
  };
  const several = rows.length > 1;
  const dialog: HTMLDialogElement = h(
    "dialog",
    {
      class: "viewer",
      "aria-label": "Image at full size",
      onclose: () => dialog.remove(),
      onkeydown: (event) => {
        if (!(event instanceof KeyboardEvent) || event.ctrlKey || event.metaKey) return;
        const act = keys[event.key];
        if (act === undefined) return;
        event.preventDefault();
        act();
      },
    },
    h(
      "div",
      { class: "viewer-bar" },
      place,
      button("−", () => larger(0.5), { "aria-label": "Smaller", "aria-keyshortcuts": "-" }),
      button("Fit", () => zoom(undefined), { "aria-keyshortcuts": "0" }),
      button("1:1", () => zoom(1), { "aria-label": "Full size", "aria-keyshortcuts": "1" }),
      button("+", () => larger(2), { "aria-label": "Larger", "aria-keyshortcuts": "+" }),
      button("Close", () => dialog.close()),
    ),
    stage,
    h(
      "div",
      { class: "viewer-steps" },
      button("← Previous", () => across(-1), { "aria-keyshortcuts": "ArrowLeft" }),
      several && button("↑ Earlier", () => along(-1), { "aria-keyshortcuts": "ArrowUp" }),
      several && button("↓ Later", () => along(1), { "aria-keyshortcuts": "ArrowDown" }),
      button("Next →", () => across(1), { "aria-keyshortcuts": "ArrowRight" }),
    ),
    caption,
  );
  onSwipe(stage, (dx, dy) => {
    // What is larger than the window is moved, not left.
    if (scale !== undefined) return;
    if (Math.abs(dx) >= Math.abs(dy)) across(dx < 0 ? 1 : -1);
    else along(dy < 0 ? 1 : -1);
  });
  stage.addEventListener("dblclick", () => zoom(scale === undefined ? 1 : undefined));
  document.body.append(dialog);
  dialog.showModal();
  stage.focus();
  show();
}

/** Calls back with a finger's way once it has gone far enough. */
function onSwipe(element: HTMLElement, act: (dx: number, dy: number) => void): void {
  let from: PointerEvent | undefined;
  element.addEventListener("pointerdown", (event) => {
    from = event.isPrimary && event.pointerType !== "mouse" ? event : undefined;
  });
  element.addEventListener("pointerup", (event) => {
    if (from === undefined || event.pointerId !== from.pointerId) return;
    const [dx, dy] = [event.clientX - from.clientX, event.clientY - from.clientY];
    from = undefined;
    if (Math.max(Math.abs(dx), Math.abs(dy)) >= SWIPE) act(dx, dy);
  });
  element.addEventListener("pointercancel", () => from = undefined);
}
