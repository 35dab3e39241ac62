import assert from "node:assert/strict";
import { ConfigError } from "../config.ts";
import { parseVaeConfig } from "./vae_config.ts";

Deno.test("the folder of another class than AutoencoderKL is refused by name", () => {
  assert.throws(
    () => parseVaeConfig({ _class_name: "AutoencoderTiny" }, "vae/config.json"),
    new ConfigError(
      "vae/config.json",
      '"_class_name" is "AutoencoderTiny", expected "AutoencoderKL"',
    ),
  );
});
