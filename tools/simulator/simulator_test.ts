import assert from "node:assert/strict";
import { curveSvg } from "./curve_svg.ts";
import { DOCUMENT, PICTURE, withTables } from "./documents.ts";
import { BATCHES, curve } from "./scenario.ts";

Deno.test("The curve and the tables of docs/scale.md are the present ones (deno task simulate writes them)", async () => {
  const curves = BATCHES.map((images) => ({ name: `${images} images`, plans: curve(images) }));
  assert.equal(await Deno.readTextFile(PICTURE), curveSvg(curves));
  const text = await Deno.readTextFile(DOCUMENT);
  assert.equal(text, withTables(text, curves));
});
