import { InputError } from "../../base/mod.ts";
import { type Arguments, optionLines, type Options, parseOptions, UsageError } from "./options.ts";
import { toldToEnd } from "./told_to_end.ts";

/** The options that every service has; the default of its port is its own. */
export const LISTEN_OPTIONS = {
  host: { type: "string", value: "HOST", help: "address to listen on (default 127.0.0.1)" },
  "log-level": {
    type: "string",
    value: "LEVEL",
    help: "debug, info, warn, error or silent (default info)",
  },
} as const satisfies Options;

/** A service's program, which `runService` runs. */
export interface ServiceProgram {
  /** Its module, from the project's root. */
  readonly entry: string;
  /** Options that must be given, for help: "--trainer HOST:PORT". */
  readonly usage?: string;
  readonly options: Options;
  /** Starts it. Throws `InputError` for what was given wrongly. */
  start(args: Arguments): Promise<RunningService>;
}

/** A service that serves. */
export interface RunningService {
  /** "host:port". */
  readonly address: string;
  /** The same of other ports that it listens on. */
  readonly adminAddress?: string | undefined;
  readonly metricsAddress?: string | undefined;
  /** Answers what is under way, and ends. */
  stop(): Promise<void>;
}

/**
 * Runs a service until it is told to end, and answers its exit code: 0, 1 where it failed, 2 where it was started with
 * wrong words or files. Once it serves it prints one line of JSON on stdout: `event` ("ready"), `address`,
 * `adminAddress` and `metricsAddress` where it has them, and `pid`.
 */
export async function runService(
  { entry, usage, options, start }: ServiceProgram,
  words: readonly string[],
): Promise<number> {
  try {
    const args = parseOptions(options, words);
    if (args.help) {
      const required = usage === undefined ? "" : ` ${usage}`;
      console.log(
        [`Usage: deno run -A ${entry}${required} [options]`, "", ...optionLines(options)].join(
          "\n",
        ),
      );
      return 0;
    }
    const [unexpected] = args.positionals;
    if (unexpected !== undefined) throw new UsageError(`Unexpected "${unexpected}"`);
    const ended = toldToEnd();
    const service = await Promise.race([start(args), ended]);
    // Told to end while it starts: there is nothing to drain, and what it began ends with this process.
    if (service === undefined) return 0;
    const { stop: _, ...addresses } = service;
    console.log(JSON.stringify({ event: "ready", ...addresses, pid: Deno.pid }));
    await ended;
    await service.stop();
    return 0;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return error instanceof InputError ? 2 : 1;
  }
}

/** The number of an option that is a port; 0 takes a free one. */
export function portOf(args: Arguments, name: string): number | undefined {
  return args.number(name, { min: 0, max: 65_535, integer: true });
}
