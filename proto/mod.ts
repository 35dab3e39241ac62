/** The wire contracts, generated from the `.proto` files here by `deno task proto`. */
export * from "./gen/drtune/cluster/v1/cluster_pb.ts";
export * from "./gen/drtune/reward/v1/reward_pb.ts";
export * from "./gen/drtune/trainer/v1/trainer_pb.ts";
export * from "./gen/grpc/health/v1/health_pb.ts";
export * from "./gen/inference/v2/grpc_predict_v2_pb.ts";
export * as tensorboard from "./gen/tensorboard/event_pb.ts";
