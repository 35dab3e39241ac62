import { trace } from "@opentelemetry/api";
import type { ScoredJob } from "./batcher.ts";

const tracer = trace.getTracer("drtune");

/** Spans below the present call's of a job that has ended just now: how long it waited, and how long it was computed. */
export function jobSpans({ info, scores, queueSeconds, computeSeconds }: ScoredJob): void {
  if (trace.getActiveSpan()?.isRecording() !== true) return;
  const end = Date.now();
  const started = end - 1000 * computeSeconds;
  tracer.startSpan("queue", { startTime: started - 1000 * queueSeconds }).end(started);
  const attributes = {
    "drtune.reward": info.name,
    "drtune.digest": info.digest,
    "drtune.images": scores.length,
  };
  tracer.startSpan("compute", { startTime: started, attributes }).end(end);
}
