import assert from "node:assert/strict";
import { join } from "node:path";
import { checkStack } from "./check_stack.ts";
import { readStack } from "./read_stack.ts";

Deno.test("What is wrong with the machine is said all at once, with line, field and advice", async () => {
  const folder = await Deno.makeTempDir();
  const taken = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const file = join(folder, "stack.yaml");
  try {
    await Deno.writeTextFile(join(folder, "short"), "short\n", { mode: 0o600 });
    await Deno.writeTextFile(join(folder, "open"), "0123456789abcdef\n", { mode: 0o644 });
    await Deno.writeTextFile(
      file,
      `models: nowhere
runs: short/runs
rewards:
  - name: symmetry
    port: ${taken.addr.port}
    records: [{ kind: symmetry }]
    admin: { port: 1024, host: 203.0.113.1, tokenFile: missing }
trainer:
  host: 0.0.0.0
  port: 0
gateway: { port: 0, tokenFile: short }
clientTls: { ca: open }
cluster: { servers: ["tls://10.0.0.1:4222"], tls: { ca: absent } }
`,
    );
    const found = (await checkStack(await readStack(file))).map((p) =>
      `${p.severity} ${p.where.replace(`${file}:`, "")}: ${
        p.message.replaceAll(folder, "F")
      }; ${p.advice}`
    ).sort();
    const expected = [
      `error 11: gateway.tokenFile: Token in F/short has 5 characters, expected at least 16`,
      "error 12: clientTls: TLS file F/open is not PEM: it has no ",
      "error 13: cluster.tls: TLS file F/absent cannot be read: ",
      "error 1: models: Folder F/nowhere is not there; mend the path",
      "error 2: runs: Folder F/short/runs cannot be written: ",
      `error 5: rewards.0.port: Port ${taken.addr.port} of 127.0.0.1 is in use; end what listens`,
      "error 7: rewards.0.admin.port: Address 203.0.113.1 is not one of this machine's; ",
      "error 7: rewards.0.admin.tokenFile: Token file F/missing cannot be read: ",
      "warning 9: trainer.host: Anybody who reaches 0.0.0.0 may start and delete runs by the trainer",
    ].sort();
    assert.equal(found.length, expected.length, found.join("\n"));
    expected.forEach((line, i) => assert(found[i]?.startsWith(line), `${found[i]}\n${line}`));
  } finally {
    taken.close();
    await Deno.remove(folder, { recursive: true });
  }
});
