import { ROOT_CONTEXT, type Span, SpanKind, trace, TraceFlags } from "@opentelemetry/api";

const tracer = trace.getTracer("drtune");

/** https://www.w3.org/TR/trace-context: version, trace, span, flags. */
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})/;

/** Does the work of a call in a span below that of its caller, if that sent one. */
export function inServerSpan<T>(
  { service, method, traceparent = "" }: {
    readonly service: string;
    readonly method: string;
    /** The caller's, from the metadata. */
    readonly traceparent?: string | undefined;
  },
  work: (span: Span) => Promise<T>,
): Promise<T> {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent) ?? [];
  const parent = traceId === undefined || spanId === undefined
    ? ROOT_CONTEXT
    : trace.setSpanContext(ROOT_CONTEXT, {
      traceId,
      spanId,
      traceFlags: parseInt(flags ?? "", 16) & TraceFlags.SAMPLED,
      isRemote: true,
    });
  const attributes = { "rpc.system": "grpc", "rpc.service": service, "rpc.method": method };
  const options = { kind: SpanKind.SERVER, attributes };
  return tracer.startActiveSpan(`${service}/${method}`, options, parent, async (span) => {
    try {
      return await work(span);
    } finally {
      span.end();
    }
  });
}
