/**
 * `deno task simulate`: writes docs/images/scale.svg, what an iteration is predicted to take on 1 to 1,000 workers, and
 * the tables of it in docs/scale.md.
 */
import { curveSvg } from "./curve_svg.ts";
import { DOCUMENT, PICTURE, withTables } from "./documents.ts";
import { BATCHES, curve } from "./scenario.ts";

const curves = BATCHES.map((images) => ({ name: `${images} images`, plans: curve(images) }));
await Deno.writeTextFile(PICTURE, curveSvg(curves));
await Deno.writeTextFile(DOCUMENT, withTables(await Deno.readTextFile(DOCUMENT), curves));
