/** A span as it was received. */
export interface CollectedSpan {
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  /** "" of a trace's first. */
  readonly parentSpanId: string;
  /** Nanoseconds since 1970. */
  readonly start: bigint;
  readonly end: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
}

const PATIENCE_MS = 30_000;

/** Takes OTLP over HTTP, in JSON, and keeps the spans. */
export class OtlpCollector implements AsyncDisposable {
  readonly spans: CollectedSpan[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  #changed = Promise.withResolvers<void>();

  constructor() {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      async (request) => {
        const body = await request.json();
        for (const { resource, scopeSpans } of body.resourceSpans ?? []) {
          const service = String(values(resource.attributes)["service.name"]);
          for (const { spans } of scopeSpans) {
            this.spans.push(...spans.map((span: OtlpSpan) => collected(service, span)));
          }
        }
        this.#changed.resolve();
        this.#changed = Promise.withResolvers();
        return Response.json({});
      },
    );
  }

  /** What a service needs in its environment to send its spans here, soon. */
  environment(service: string): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_DENO_CONSOLE: "ignore",
      OTEL_SERVICE_NAME: service,
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "100",
    };
  }

  /** The first span that is `wanted`, once it is there. Throws where it does not come. */
  async find(wanted: (span: CollectedSpan) => boolean): Promise<CollectedSpan> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const lines = this.spans.map(({ service, name }) => `${service}: ${name}`);
      late.reject(new Error(`The span did not come; these did:\n${lines.join("\n")}`));
    }, PATIENCE_MS);
    try {
      for (;;) {
        const { promise } = this.#changed;
        const found = this.spans.find(wanted);
        if (found !== undefined) return found;
        await Promise.race([promise, late.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding */
interface OtlpSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes?: readonly OtlpAttribute[];
}

interface OtlpAttribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

function collected(service: string, span: OtlpSpan): CollectedSpan {
  const { name, traceId, spanId, parentSpanId = "" } = span;
  return {
    ...{ service, name, traceId, spanId, parentSpanId },
    start: BigInt(span.startTimeUnixNano),
    end: BigInt(span.endTimeUnixNano),
    attributes: values(span.attributes ?? []),
  };
}

function values(attributes: readonly OtlpAttribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
