/** What a trainer and its workers share: their contract over NATS, the connection to it, and blobs. */
export * from "./blobs.ts";
export * from "./connect_nats.ts";
export * from "./contract.ts";
export * from "./job_stream.ts";
