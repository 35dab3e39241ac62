import { formatMetrics, type MetricFamily, METRICS_TYPE } from "./metric_family.ts";
import { processMetrics } from "./process_metrics.ts";

/** A server of metrics. */
export interface MetricsServer {
  /** "host:port". */
  readonly address: string;
  stop(): Promise<void>;
}

/**
 * Answers GET /metrics with what `collect` has and what the process takes, for Prometheus. Throws an `Error` that says
 * what is wrong with the address.
 */
export function serveMetrics(
  collect: () => readonly MetricFamily[] | Promise<readonly MetricFamily[]>,
  { host, port }: { readonly host: string; readonly port: number },
): MetricsServer {
  const answer = async (request: Request) => {
    if (new URL(request.url).pathname !== "/metrics") {
      return new Response("Not found, expected /metrics\n", { status: 404 });
    }
    const text = formatMetrics([...await collect(), ...await processMetrics()]);
    return new Response(text, { headers: { "content-type": METRICS_TYPE } });
  };
  try {
    const server = Deno.serve({ hostname: host, port, onListen: () => {} }, answer);
    return {
      address: `${host.includes(":") ? `[${host}]` : host}:${server.addr.port}`,
      stop: () => server.shutdown(),
    };
  } catch (cause) {
    const reason = cause instanceof Deno.errors.AddrInUse
      ? "the port is in use"
      : cause instanceof Error
      ? cause.message
      : String(cause);
    throw new Error(`Cannot serve metrics on ${host}:${port}: ${reason}`, { cause });
  }
}
