export { killCluster } from "./kill_cluster.ts";
export { NATS_SERVER, NatsServer } from "./_nats_server.ts";
