import { cut } from "./cut.ts";

/** From most to least that is written. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

/** Least severe level that is written. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Facts of a log line beside its message; values must go into JSON. An `Error` becomes its stack. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Characters of one value of a line: who is logged chooses some of them, and stacks begin with messages. */
const MAX_TEXT = 8192;

/** Writes one JSON object a line: `time`, `level`, `msg`, then the fields. */
export interface Logger {
  debug(msg: string, fields?: LogFields): void;
  info(msg: string, fields?: LogFields): void;
  warn(msg: string, fields?: LogFields): void;
  error(msg: string, fields?: LogFields): void;
  /** A logger that adds these fields to every line. */
  with(fields: LogFields): Logger;
}

/** Makes a logger; by default it writes from "info" on to stderr. */
export function createLogger(
  { level = "info", write = (line: string) => console.error(line), fields = {} }: {
    readonly level?: LogLevel;
    readonly write?: (line: string) => void;
    readonly fields?: LogFields;
  } = {},
): Logger {
  const lowest = LOG_LEVELS.indexOf(level);
  const at = (name: LogLevel) => (msg: string, more: LogFields = {}) => {
    if (LOG_LEVELS.indexOf(name) < lowest) return;
    const line = { time: new Date().toISOString(), level: name, msg, ...fields, ...more };
    write(JSON.stringify(line, (_key, value) => {
      const told = value instanceof Error ? describe(value) : value;
      return typeof told === "string" ? cut(told, MAX_TEXT) : told;
    }));
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: (more) => createLogger({ level, write, fields: { ...fields, ...more } }),
  };
}

function describe(error: Error): string {
  const own = error.stack ?? `${error.name}: ${error.message}`;
  return error.cause instanceof Error ? `${own}\nCaused by: ${describe(error.cause)}` : own;
}
