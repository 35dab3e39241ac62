/**
 * What is wrong with how the page looks now: text with less contrast than WCAG AA wants (4.5, large 3), edges of fields
 * below 3, text under 11 px, content wider than the window, and where fingers are used targets below 40 px. Runs in the
 * page, and so is a function that refers to nothing outside of itself.
 */
export function lookFaults(): string[] {
  type Colour = readonly [red: number, green: number, blue: number, alpha: number];
  const scope = document.querySelector("dialog[open]") ?? document.body;
  const faults = new Set<string>();
  const canvas = document.createElement("canvas");
  const pixel = canvas.getContext("2d", { willReadFrequently: true });
  const named = (element: Element) =>
    `${element.tagName.toLowerCase()} ${JSON.stringify(element.textContent.trim().slice(0, 40))}`;
  const seen = (element: Element) =>
    element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  /** Whatever CSS may write, as it is painted. */
  const painted = new Map<string, Colour>();
  const colour = (css: string): Colour => {
    const known = painted.get(css);
    if (known !== undefined) return known;
    if (pixel === null) throw new Error("No canvas");
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = css;
    pixel.fillRect(0, 0, 1, 1);
    const [red = 0, green = 0, blue = 0, alpha = 0] = pixel.getImageData(0, 0, 1, 1).data;
    const found: Colour = [red, green, blue, alpha / 255];
    painted.set(css, found);
    return found;
  };
  const over = ([r, g, b, a]: Colour, [x, y, z]: Colour): Colour => {
    const mix = (top: number, under: number) => top * a + under * (1 - a);
    return [mix(r, x), mix(g, y), mix(b, z), 1];
  };
  const luminance = ([r, g, b]: Colour) => {
    const linear = (c: number) =>
      c / 255 <= 0.03928 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4;
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const contrast = (a: Colour, b: Colour) => {
    const [light = 0, dark = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const backdrop = (element: Element | null): Colour => {
    if (element === null) return [255, 255, 255, 1];
    const own = colour(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, backdrop(element.parentElement));
  };
  const opacity = (element: Element | null): number =>
    element === null
      ? 1
      : Number(getComputedStyle(element).opacity) * opacity(element.parentElement);

  const texts = document.createTreeWalker(scope, NodeFilter.SHOW_TEXT);
  for (let text; (text = texts.nextNode());) {
    const element = text.parentElement;
    const inactive = element?.closest(":disabled, script, style, noscript, option");
    if (element === null || inactive || !text.textContent?.trim() || !seen(element)) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const under = backdrop(element);
    const [r, g, b, a] = colour(element instanceof SVGElement ? style.fill : style.color);
    const ratio = contrast(over([r, g, b, a * opacity(element)], under), under);
    if (ratio < (large ? 3 : 4.5)) faults.add(`Contrast ${ratio.toFixed(2)} of ${named(element)}`);
    if (size < 11) faults.add(`Size ${size} of ${named(element)}`);
  }
  for (const field of scope.querySelectorAll("input:not([type=range]), select, textarea")) {
    if (!seen(field)) continue;
    const edge = colour(getComputedStyle(field).borderTopColor);
    const ratio = contrast(edge, backdrop(field.parentElement));
    if (ratio < 3) faults.add(`Contrast ${ratio.toFixed(2)} of the edge of ${named(field)}`);
  }
  const { scrollWidth } = document.documentElement;
  if (scrollWidth > innerWidth) faults.add(`The page is ${scrollWidth} wide in ${innerWidth}`);
  for (const element of scope.querySelectorAll("*")) {
    const { right, left, width } = element.getBoundingClientRect();
    const scrolls = element.closest(".scroll, .presets, pre, textarea, nav, .skip, svg");
    if (width > 0 && !scrolls && seen(element) && (right > innerWidth + 1 || left < -1)) {
      faults.add(`Outside of the window: ${named(element)}`);
    }
  }
  if (matchMedia("(pointer: coarse), (max-width: 44rem)").matches) {
    for (const target of scope.querySelectorAll("a, button, input, select, textarea, summary")) {
      // What is pressed to choose is all of the label.
      const pressed = target.matches("[type=radio], [type=checkbox]") && target.closest("label");
      const { width, height } = (pressed || target).getBoundingClientRect();
      if (!seen(target) || target.matches(".skip, p a") || (width >= 40 && height >= 40)) continue;
      faults.add(`Target of ${Math.round(width)} x ${Math.round(height)}: ${named(target)}`);
    }
  }
  return [...faults];
}
