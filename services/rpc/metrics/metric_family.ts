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

/** A metric whose values are there when they are asked for. */
export function gauge(
  name: string,
  help: string,
  { samples, type = "gauge" }: {
    readonly samples: readonly (readonly [labels: Labels, value: number])[];
    readonly type?: "counter" | "gauge";
  },
): MetricFamily {
  return { name, type, help, samples: samples.map(([labels, value]) => ["", labels, value]) };
}

/** Media type of `formatMetrics`. */
export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Prometheus' text format, version 0.0.4. */
export function formatMetrics(families: readonly MetricFamily[]): string {
  return families.map(({ name, type, help, samples }) =>
    [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} ${type}`,
      ...samples.map(([suffix, labels, value]) =>
        `${name}${suffix}${formatLabels(labels)} ${formatValue(value)}`
      ),
    ].map((line) => `${line}\n`).join("")
  ).join("");
}

function formatValue(value: number): string {
  return Math.abs(value) === Infinity ? (value > 0 ? "+Inf" : "-Inf") : String(value);
}

function formatLabels(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    const text = String(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"');
    return `${name}="${text.replaceAll("\n", "\\n")}"`;
  });
  return parts.length > 0 ? `{${parts.join(",")}}` : "";
}
