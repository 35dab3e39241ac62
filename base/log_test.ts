import assert from "node:assert/strict";
import { createLogger } from "./log.ts";

Deno.test("What strangers have logged is bounded, in messages of errors too", () => {
  const lines: string[] = [];
  const log = createLogger({ write: (line) => lines.push(line) });
  log.info("rpc", {
    error: "x".repeat(2 ** 20),
    cause: new Error("y".repeat(2 ** 20), { cause: "z".repeat(2 ** 20) }),
  });
  const [line = ""] = lines;
  assert(line.length < 2 ** 15, String(line.length));
  assert.match(JSON.parse(line).cause, /^Error: y+…$/);
});
