import { fileURLToPath } from "node:url";
import type { Curve } from "./curve_svg.ts";
import { curveTable } from "./curve_table.ts";

/** Where the picture and its tables are. */
export const PICTURE = fileURLToPath(new URL("../../docs/images/scale.svg", import.meta.url));
export const DOCUMENT = fileURLToPath(new URL("../../docs/scale.md", import.meta.url));

/** The document with each curve's table under the line "N images:". Throws `RangeError` where there is no such line. */
export function withTables(text: string, curves: readonly Curve[]): string {
  return curves.reduce((text, { name, plans }) => {
    const place = new RegExp(`(\\n${name}:\\n\\n)(?:\\|.*\\n)*\\n*`);
    if (!place.test(text)) throw new RangeError(`There is no line "${name}:"`);
    return text.replace(place, (_, head: string) => `${head}${curveTable(plans)}\n\n`);
  }, text);
}
