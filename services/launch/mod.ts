/** How a service starts and ends: its words, files, addresses, tokens and certificates, its priority, its signals. */
export * from "./answer_first.ts";
export * from "./linked_places.ts";
export * from "./nats_options.ts";
export * from "./options.ts";
export * from "./parse_addresses.ts";
export * from "./read_config.ts";
export * from "./read_tls.ts";
export * from "./read_token.ts";
export * from "./reward_tls_options.ts";
export * from "./run_service.ts";
export * from "./told_to_end.ts";
