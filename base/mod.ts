/** What is written once for all floors: sentences of faults, waits that end, statistics, log levels. */
export * from "./backoff.ts";
export * from "./decode_text.ts";
export * from "./check_value.ts";
export * from "./cut.ts";
export * from "./input_error.ts";
export * from "./listen_host.ts";
export * from "./log.ts";
export * from "./nearest.ts";
export * from "./or_silence.ts";
export * from "./race_abort.ts";
export * from "./serial_queue.ts";
export * from "./statistics/mod.ts";
