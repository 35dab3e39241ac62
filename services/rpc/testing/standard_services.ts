import { Client, credentials } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../../../proto/mod.ts";
import { grpcClient } from "../grpc_client.ts";

/** What grpc.health.v1.Health/Check answers, e.g. "SERVING". */
export async function healthStatus(address: string, service: string): Promise<string | undefined> {
  const client = grpcClient(Health, address);
  try {
    return ServingStatus[(await client.check({ service })).status];
  } finally {
    client.close();
  }
}

/** The services that server reflection lists, sorted. Written against the wire, so that it needs no library of theirs. */
export async function listServices(address: string, version: string): Promise<string[]> {
  const client = new Client(address, credentials.createInsecure());
  const bytes = (data: Uint8Array) => Buffer.from(data);
  const call = client.makeBidiStreamRequest(
    `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    bytes,
    (data: Buffer) => data,
  );
  // ServerReflectionRequest{list_services: "*"}: field 7, length-delimited, one byte.
  call.end(Uint8Array.of(0x3a, 1, 0x2a));
  try {
    for await (const response of call) {
      const text = new TextDecoder("latin1").decode(response);
      return [...text.matchAll(/[a-z][\w.]+\.[A-Z]\w+/g)].map(([name]) => name).sort();
    }
    return [];
  } finally {
    client.close();
  }
}
