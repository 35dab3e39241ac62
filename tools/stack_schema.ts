/** `deno task stack-schema`: writes deploy/stack.schema.json, by which editors check descriptions of stacks. */
import { stackJsonSchema } from "../services/cli/stack/mod.ts";

const file = new URL("../deploy/stack.schema.json", import.meta.url);
await Deno.writeTextFile(file, `${JSON.stringify(stackJsonSchema(), undefined, 2)}\n`);
