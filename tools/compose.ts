/** `deno task compose`: writes the compose files of the embedded stack. */
import { fileURLToPath } from "node:url";
import {
  COMPOSE_VARIANTS,
  composeYaml,
  EMBEDDED_STACK,
  readStack,
} from "../services/cli/stack/mod.ts";

const folder = fileURLToPath(new URL("../deploy", import.meta.url));
const stack = await readStack(EMBEDDED_STACK);
for (const variant of COMPOSE_VARIANTS) {
  const name = variant === "stack" ? "compose.yaml" : `compose.${variant}.yaml`;
  await Deno.writeTextFile(`${folder}/${name}`, composeYaml(stack, { folder, variant }));
}
