import { type Attributes, SpanStatusCode, trace } from "@opentelemetry/api";

const tracer = trace.getTracer("drtune");

/**
 * Does work in a span of OpenTelemetry's; what it calls, also in another process, is below it. Costs next to nothing
 * where no spans are kept.
 */
export function traced<T>(
  name: string,
  work: () => T | Promise<T>,
  { attributes = {}, root = false }: {
    readonly attributes?: Attributes;
    /** Begins a trace of its own. */
    readonly root?: boolean;
  } = {},
): Promise<T> {
  return tracer.startActiveSpan(name, { attributes, root }, async (span) => {
    try {
      return await work();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      span.setStatus({ code: SpanStatusCode.ERROR, message });
      throw error;
    } finally {
      span.end();
    }
  });
}
