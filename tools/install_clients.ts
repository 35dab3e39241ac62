/**
 * `deno task clients`: installs the published gRPC clients that our servers must work with, unmodified, by `go install`
 * into .cache/clients. The tests of tests/clients that need one are skipped by name where it is missing.
 */
import process from "node:process";
import { CLIENTS_FOLDER } from "./find_client.ts";

const CLIENTS = [
  "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
  "github.com/grpc-ecosystem/grpc-health-probe@v0.4.62",
  "github.com/bojand/ghz/cmd/ghz@v0.93.0",
];

await Deno.mkdir(CLIENTS_FOLDER, { recursive: true });
for (const client of CLIENTS) {
  console.error(`go install ${client}`);
  try {
    const { success } = await new Deno.Command("go", {
      args: ["install", client],
      env: { GOBIN: CLIENTS_FOLDER },
    }).spawn().status;
    if (!success) process.exit(1);
  } catch (error) {
    console.error(`Go cannot be run: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
