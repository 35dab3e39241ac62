import assert from "node:assert/strict";
import { join } from "node:path";
import { findPython } from "../../tools/mod.ts";
import { Health } from "../../proto/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { readClientTls, readServerTls } from "../../services/launch/mod.ts";
import { grpcClient, startGrpcServer, StatusError } from "../../services/rpc/mod.ts";
import { run } from "./_server.ts";

/** An authority, a server and a client of it, one whose time is over, and one of another authority. */
const CERTIFICATES = `set -e
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"
}
request() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
}
signed() {
  request "$1"
  openssl x509 -req -days 2 -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -out "$1.pem" -extfile names
}
echo "subjectAltName=DNS:localhost,IP:127.0.0.1" > names
authority ca; authority other
signed server ca; signed client ca; signed stranger other
request expired
touch index; echo 01 > serial
printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\ndefault_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' > ca.cnf
openssl ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in expired.csr -out expired.pem -startdate 200101000000Z -enddate 210101000000Z`;

/** Asks for health with grpcio; prints the status, or the error's code. */
const PYTHON = `
import grpc, sys
address, ca, cert, key = sys.argv[1:5]
read = lambda path: open(path, "rb").read() if path else None
channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(read(ca), read(key), read(cert)))
call = channel.unary_unary("/grpc.health.v1.Health/Check", lambda b: b, lambda b: b)
try:
    print("answered", call(b"", timeout=20).hex())
except grpc.RpcError as error:
    print(error.code().name)`;

const hasOpenssl = await new Deno.Command("openssl", { args: ["version"] }).output()
  .then(({ success }) => success, () => false);

const CALLERS: readonly (readonly [name: string | undefined, served: boolean])[] = [
  ["client", true],
  [undefined, false],
  ["expired", false],
  ["stranger", false],
];

/** Makes certificates and serves with mutual TLS. */
async function withMutualTls(
  test: (address: string, folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const made = await new Deno.Command("bash", { args: ["-c", CERTIFICATES], cwd: folder })
      .output();
    assert.ok(made.success, new TextDecoder().decode(made.stderr));
    const files = { cert: "server.pem", key: "server.key", clientCa: "ca.pem" };
    const server = await startGrpcServer({
      services: [],
      port: 0,
      log: createLogger({ level: "silent" }),
      tls: await readServerTls(files, folder),
    });
    try {
      await test(server.address, folder);
    } finally {
      await server.stop({ drainSeconds: 0 });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name:
    "Mutual TLS refuses callers without a certificate, with an expired one, of another authority",
  ignore: !hasOpenssl,
}, () =>
  withMutualTls(async (address, folder) => {
    for (const [name, served] of CALLERS) {
      const own = name === undefined ? {} : { cert: `${name}.pem`, key: `${name}.key` };
      const tls = await readClientTls({ ca: "ca.pem", ...own }, folder);
      const client = grpcClient(Health, `grpcs://${address}`, { tls });
      const call = client.check({}, { timeoutMs: 20_000 });
      if (served) await call;
      else {
        await assert.rejects(call, (error) => {
          assert(error instanceof StatusError, String(error));
          assert.match(error.status, /^(?:UNAVAILABLE|FAILED_PRECONDITION)$/);
          assert.match(error.message, /^Cannot connect to /);
          return true;
        });
      }
      client.close();
    }
  }));

const python = findPython() ?? "";
Deno.test({
  name: "Mutual TLS serves and refuses grpcio's callers alike",
  ignore: !hasOpenssl || python === "",
}, () =>
  withMutualTls(async (address, folder) => {
    const path = (name: string | undefined, end: string) =>
      name === undefined ? "" : join(folder, `${name}.${end}`);
    for (const [name, served] of CALLERS) {
      const args = [address, path("ca", "pem"), path(name, "pem"), path(name, "key")];
      const { stdout, stderr } = await run(python, ["-c", PYTHON, ...args]);
      assert.equal(stdout, served ? "answered 0801" : "UNAVAILABLE", `${name}: ${stderr}`);
    }
  }));
