/** Tries what a service must not do; prints a line for each attempt: its name, and "done" or why it was not. */
import { spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";

const [outside = "", inside = ""] = Deno.args;
const ATTEMPTS: Readonly<Record<string, () => unknown>> = {
  "read inside": () => readFile(inside),
  read: () => readFile(outside),
  write: () => writeFile(outside, "overwritten"),
  run: () => {
    const { error } = spawnSync("sh", ["-c", "true"]);
    if (error) throw error;
  },
  env: () => Deno.env.get("HOME"),
  connect: () =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port: 1 });
      socket.on("connect", resolve).on("error", reject);
    }),
  ffi: () => Deno.dlopen(outside, {}),
};
for (const [name, attempt] of Object.entries(ATTEMPTS)) {
  try {
    await attempt();
    console.log(`${name}: done`);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? ` ${error.code}` : "";
    console.log(`${name}: ${error instanceof Error ? error.name : error}${code}`);
  }
}
