import { Counter, gauge, Histogram, type MetricFamily } from "../rpc/metrics/mod.ts";

/** What the gateway counts about itself. */
export class GatewayMetrics {
  readonly #requests = new Counter("drtune_gateway_requests_total", "Answered requests.");
  readonly #durations = new Histogram(
    "drtune_gateway_request_duration_seconds",
    "Time to the answer's head.",
  );
  /** Open streams of events. */
  streams = 0;

  /** Counts an answered request. `route` is a template, so that there are few. */
  observe(
    { method, route, status, seconds }: {
      readonly method: string;
      readonly route: string;
      readonly status: number;
      readonly seconds: number;
    },
  ): void {
    this.#requests.add({ method, route, status });
    this.#durations.observe({ method, route }, seconds);
  }

  families(): MetricFamily[] {
    return [
      this.#requests.family(),
      this.#durations.family(),
      gauge("drtune_gateway_streams", "Open streams of events.", {
        samples: [[{}, this.streams]],
      }),
    ];
  }
}
