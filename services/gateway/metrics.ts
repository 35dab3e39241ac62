/** Upper bounds of the request durations' buckets, seconds. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Labels of a sample. */
export type Labels = Readonly<Record<string, string | number>>;

/** One metric with its samples, in Prometheus' terms. */
export interface MetricFamily {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  /** Suffix of the name ("" but for histograms), labels, value. */
  readonly samples: readonly (readonly [suffix: string, labels: Labels, value: number])[];
}

/** What the gateway counts about itself. */
export class Metrics {
  readonly #requests = new Map<string, { readonly labels: Labels; count: number }>();
  readonly #durations = new Map<
    string,
    { readonly labels: Labels; readonly buckets: number[]; sum: number; count: number }
  >();
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
    const key = `${method} ${route}`;
    const request = this.#requests.get(`${key} ${status}`) ??
      { labels: { method, route, status }, count: 0 };
    request.count++;
    this.#requests.set(`${key} ${status}`, request);
    const duration = this.#durations.get(key) ??
      { labels: { method, route }, buckets: BUCKETS.map(() => 0), sum: 0, count: 0 };
    BUCKETS.forEach((bound, i) => {
      if (seconds <= bound) duration.buckets[i] = (duration.buckets[i] ?? 0) + 1;
    });
    duration.sum += seconds;
    duration.count++;
    this.#durations.set(key, duration);
  }

  families(): MetricFamily[] {
    return [
      {
        name: "drtune_gateway_requests_total",
        type: "counter",
        help: "Answered requests.",
        samples: [...this.#requests.values()].map(({ labels, count }) => ["", labels, count]),
      },
      {
        name: "drtune_gateway_request_duration_seconds",
        type: "histogram",
        help: "Time to the answer's head.",
        samples: [...this.#durations.values()].flatMap(({ labels, buckets, sum, count }) => [
          ...BUCKETS.map((le, i) => ["_bucket", { ...labels, le }, buckets[i] ?? 0] as const),
          ["_bucket", { ...labels, le: "+Inf" }, count] as const,
          ["_sum", labels, sum] as const,
          ["_count", labels, count] as const,
        ]),
      },
      {
        name: "drtune_gateway_streams",
        type: "gauge",
        help: "Open streams of events.",
        samples: [["", {}, this.streams]],
      },
    ];
  }
}

/** Prometheus' text format, version 0.0.4. */
export function formatMetrics(families: readonly MetricFamily[]): string {
  return families.map(({ name, type, help, samples }) =>
    [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} ${type}`,
      ...samples.map(([suffix, labels, value]) =>
        `${name}${suffix}${formatLabels(labels)} ${value}`
      ),
    ].map((line) => `${line}\n`).join("")
  ).join("");
}

function formatLabels(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    const text = String(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"');
    return `${name}="${text.replaceAll("\n", "\\n")}"`;
  });
  return parts.length > 0 ? `{${parts.join(",")}}` : "";
}
