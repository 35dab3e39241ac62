/** gRPC servers and clients over plain functions, statuses, worker threads behind them. */
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
export * from "./message_schemas.ts";
export * from "./replica_addresses.ts";
export * from "./replica_pool.ts";
export * from "./remote_reward.ts";
export * from "./reward_client.ts";
export * from "./run_pages.ts";
export * from "./server_limits.ts";
export * from "./worker_handlers.ts";
export type { RetryOptions } from "./_retry.ts";
export { faultOf, readMessage } from "./_read_message.ts";
