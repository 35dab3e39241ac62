import assert from "node:assert/strict";
import { join } from "node:path";
import { withFolder } from "../../../tests/support/mod.ts";
import { localPlace } from "./local_place.ts";
import { EMBEDDED_STACK, readStack } from "./read_stack.ts";
import { serviceDefinitions } from "./service_definition.ts";

Deno.test("a trainer on this machine may read what links in the folder of models lead to", () =>
  withFolder(async (temporary) => {
    const root = await Deno.realPath(temporary);
    await Deno.mkdir(join(root, "data"));
    await Deno.mkdir(join(root, "models"));
    await Deno.symlink(join(root, "data"), join(root, "models", "sd15"));
    const stack = { ...await readStack(EMBEDDED_STACK), models: join(root, "models") };
    const definitions = serviceDefinitions(stack, localPlace(stack));
    const trainer = definitions.find(({ name }) => name === "trainer");
    const read = trainer?.permissions.find((flag) => flag.startsWith("--allow-read=")) ?? "";
    assert.ok(read.split(",").includes(join(root, "data")), read);
  }));
