/**
 * `deno task clients [NAME...]`: installs the published gRPC clients that our servers must work with, unmodified, the
 * NATS server of a cluster, and what checks the chart, by `go install` into .cache/clients; all of them, or those that are
 * named. Tests that need one are skipped by name where it is missing.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { CLIENTS_FOLDER } from "./find_client.ts";

const CLIENTS = new Map([
  ["grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"],
  ["grpc-health-probe", "github.com/grpc-ecosystem/grpc-health-probe@v0.4.62"],
  ["ghz", "github.com/bojand/ghz/cmd/ghz@v0.93.0"],
  ["nats-server", "github.com/nats-io/nats-server/v2@v2.15.3"],
  ["kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0"],
  ["helm", "helm.sh/helm/v3/cmd/helm@v3.19.0"],
]);
/** Time between lines of progress where stderr is no terminal, and where it is one, in milliseconds. */
const [RARELY, OFTEN] = [10_000, 200];

const isTerminal = Deno.stderr.isTerminal();
const names = Deno.args.length > 0 ? Deno.args : [...CLIENTS.keys()];
const unknown = names.find((name) => !CLIENTS.has(name));
if (unknown !== undefined) {
  console.error(`Client is ${JSON.stringify(unknown)}, expected ${[...CLIENTS.keys()].join(", ")}`);
  process.exit(2);
}
const { error } = spawnSync("go", ["version"]);
if (error !== undefined) {
  console.error(`Go cannot be run: ${error.message}`);
  process.exit(1);
}
await Deno.mkdir(CLIENTS_FOLDER, { recursive: true });
for (const [i, name] of names.entries()) {
  const title = `${i + 1}/${names.length} ${name}`;
  const failure = await install(CLIENTS.get(name) ?? "", title);
  if (failure !== undefined) {
    console.error(failure);
    process.exit(1);
  }
}

/** Builds and installs one, showing how many packages came and were compiled. Answers why it failed, where it did. */
async function install(source: string, title: string): Promise<string | undefined> {
  const started = performance.now();
  let [fetched, compiled, shown] = [0, 0, -Infinity];
  const said: string[] = [];
  const show = (ended: string) => {
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    const line =
      `${title}: ${fetched} modules fetched, ${compiled} packages compiled, ${seconds} s`;
    const text = isTerminal ? `\r\x1b[2K${line}${ended}` : `${line}\n`;
    Deno.stderr.writeSync(new TextEncoder().encode(text));
    shown = performance.now();
  };
  // -v names each package that is compiled.
  const go = spawn("go", ["install", "-v", source], {
    env: { ...process.env, GOBIN: CLIENTS_FOLDER },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(go, "close");
  for await (const line of createInterface({ input: go.stderr })) {
    if (line.startsWith("go: downloading ")) fetched++;
    else if (/^[\w./~-]+$/.test(line)) compiled++;
    else said.push(line);
    if (performance.now() - shown > (isTerminal ? OFTEN : RARELY)) show("");
  }
  show("\n");
  const [code] = await ended;
  return code === 0 ? undefined : said.slice(-20).join("\n");
}
