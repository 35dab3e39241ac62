import { Client, credentials, type requestCallback, type ServiceDefinition } from "@grpc/grpc-js";
import { service as health } from "grpc-health-check";
import { Buffer } from "node:buffer";

/** What grpc.health.v1.Health/Check answers: "SERVING", "NOT_SERVING", or the error's details. */
export async function healthStatus(address: string, service: string): Promise<string> {
  const client = new Client(address, credentials.createInsecure());
  const { promise, resolve } = Promise.withResolvers<string>();
  const definition: ServiceDefinition = health;
  const { path, requestSerialize, responseDeserialize } = definition["Check"] ?? {};
  const done: requestCallback<{ status: string }> = (error, response) =>
    resolve(error ? error.details : response?.status ?? "");
  if (path && requestSerialize && responseDeserialize) {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, { service }, done);
  }
  try {
    return await promise;
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
