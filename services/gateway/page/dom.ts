/** What an element may hold; undefined and false hold nothing. */
export type Child = Node | string | number | false | undefined;

/** Attributes by name; functions listen to the event of that name ("onclick"). */
export type Attributes = Readonly<
  Record<string, string | number | boolean | undefined | ((event: Event) => void)>
>;

/** Makes an HTML element. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

/** Makes an SVG element. */
export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill<E extends Element>(
  element: E,
  attributes: Attributes,
  children: readonly Child[],
): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...present(children));
  return element;
}

/** Puts a text in place of another: the same one is not said again to whoever listens. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) replace(element, text);
}

/** Puts children in place of those an element has. */
export function replace(element: Element, ...children: readonly Child[]): void {
  element.replaceChildren(...present(children));
}

function present(children: readonly Child[]): (Node | string)[] {
  return children.filter((child) => child !== undefined && child !== false)
    .map((child) => child instanceof Node ? child : String(child));
}

/** What is to be drawn at the next frame. */
const waiting = new Set<() => void>();
let asked = false;
let rested = 0;

/**
 * A function that draws at most once a frame, however often it is called. All drawing together takes at most a quarter
 * of the time, so that events that come fast are still taken.
 */
export function onceAFrame(draw: () => void): () => void {
  return () => {
    waiting.add(draw);
    if (asked) return;
    asked = true;
    const wait = rested - performance.now();
    if (wait > 0) setTimeout(() => requestAnimationFrame(drawAll), wait);
    else requestAnimationFrame(drawAll);
  };
}

function drawAll(): void {
  const start = performance.now();
  const draws = [...waiting];
  waiting.clear();
  asked = false;
  try {
    for (const draw of draws) draw();
  } finally {
    const end = performance.now();
    rested = end + 3 * (end - start);
  }
}

/** A button. */
export function button(
  label: string,
  onclick: () => void | Promise<void>,
  attributes: Attributes = {},
): HTMLButtonElement {
  const element = h("button", {
    type: "button",
    ...attributes,
    onclick: async () => {
      // A second click asks for what is being done.
      if (element.hasAttribute("aria-busy")) return;
      element.setAttribute("aria-busy", "true");
      try {
        await onclick();
      } finally {
        element.removeAttribute("aria-busy");
      }
    },
  }, label);
  return element;
}

/** A labelled input, select or text area. */
export function field(label: string, input: HTMLElement, hint?: string): HTMLLabelElement {
  return h(
    "label",
    { class: "field" },
    h("span", { class: "field-label" }, label),
    input,
    hint !== undefined && h("span", { class: "hint" }, hint),
  );
}
