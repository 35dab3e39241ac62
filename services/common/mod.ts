/** Plumbing the services share: gRPC servers and clients over plain functions, statuses, logs. */
export * from "./answer_first.ts";
export * from "./endpoint.ts";
export * from "./errors.ts";
export * from "./grpc_client.ts";
export * from "./grpc_server.ts";
export {
  type CallContext,
  type CallEnd,
  type CallObserver,
  type CallStart,
  type GrpcService,
  grpcService,
  type Handlers,
} from "./grpc_service.ts";
export * from "./log.ts";
export * from "./message_schemas.ts";
export * from "./nearest.ts";
export * from "./parse_addresses.ts";
export * from "./or_silence.ts";
export * from "./race_abort.ts";
export * from "./remote_reward.ts";
export * from "./read_config.ts";
export * from "./read_tls.ts";
export * from "./read_token.ts";
export * from "./statistics.ts";
export * from "./worker_handlers.ts";
export * from "./told_to_end.ts";
