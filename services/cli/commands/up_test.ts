import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const ZOO = fileURLToPath(new URL("../../../zoo", import.meta.url));

Deno.test({
  name: "One service of a stack is started alone, with the permissions that the stack gives it",
  ignore: Deno.build.os !== "linux",
}, async () => {
  const folder = await Deno.makeTempDir();
  const stack = join(folder, "stack.yaml");
  const listeners = Array.from({ length: 3 }, () => Deno.listen({ port: 0 }));
  const [reward, trainer, gateway] = listeners.map(({ addr }) => addr.port);
  listeners.forEach((listener) => listener.close());
  await Deno.writeTextFile(
    stack,
    JSON.stringify({
      ...{ name: "one", models: ZOO, runs: "runs", state: "state" },
      rewards: [{ name: "symmetry", port: reward, records: [{ kind: "symmetry" }] }],
      ...{ trainer: { port: trainer }, gateway: { port: gateway } },
    }),
  );
  const drtune = async (...words: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--no-check", MAIN, ...words, "--stack", stack],
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  };
  try {
    const strange = await drtune("up", "--only", "symetry");
    assert.equal(strange.code, 2);
    assert.match(strange.stderr, /No service "symetry" in .*: it has .*symmetry/);
    const up = await drtune("up", "--only", "symmetry", "--detach", "--json");
    assert.equal(up.code, 0, up.stderr);
    assert.doesNotMatch(up.stderr, /Live page|grpcurl/);
    const { services }: { services: { name: string; pid: number }[] } = JSON.parse(up.stdout);
    assert.deepEqual(services.map(({ name }) => name), ["symmetry"]);
    const words = (await Deno.readTextFile(`/proc/${services[0]?.pid}/cmdline`)).split("\0");
    assert(words.includes(`--allow-net=127.0.0.1:${reward}`), words.join(" "));
    assert(!words.some((word) => word === "-A" || word.startsWith("--allow-all")));
  } finally {
    await drtune("down");
    await Deno.remove(folder, { recursive: true });
  }
});
