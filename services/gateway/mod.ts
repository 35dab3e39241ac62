/** The gateway: REST, server-sent events, an OpenAPI document and the live page over the gRPC services. */
export { createGateway, type Gateway, type GatewayOptions } from "./gateway.ts";
export { main } from "./main.ts";
export { type GatewayServer, serveGateway } from "./serve_gateway.ts";
export { messageOf } from "./request_message.ts";
export { HttpError } from "./http_error.ts";
