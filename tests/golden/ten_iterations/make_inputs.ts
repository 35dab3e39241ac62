/**
 * Writes what ../reference/ten_iterations.py trains with: `deno run -A tests/golden/ten_iterations/make_inputs.ts`. Prompts
 * and trained steps are those that the run's log tells.
 */
import { writeSafetensors } from "../../../models/weights/mod.ts";
import { seededInputs } from "./_inputs.ts";
import { CONFIG, trained } from "./_run.ts";

const file = (name: string) => new URL(name, import.meta.url).pathname;
const { steps } = await trained();
const iterations = steps.map(({ prompts, plans }) => ({ prompts, plans }));
await writeSafetensors(file("inputs.safetensors"), await seededInputs());
await Deno.writeTextFile(
  file("run.json"),
  `${JSON.stringify({ config: CONFIG, iterations }, null, 1)}\n`,
);
