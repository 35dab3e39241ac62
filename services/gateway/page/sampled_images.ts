import { events, runPath, type StreamEvent } from "./api.ts";
import type { SampledImage } from "./types.ts";

/** What to draw. */
export interface SampleOrder {
  readonly runId: string;
  /** Checkpoint; 0 is the model without LoRA. */
  readonly step: number;
  /** None: the run's held-out prompts. */
  readonly prompts: readonly string[];
  readonly seed: number;
  readonly imagesPerPrompt: number;
}

/** Draws images, one at a time as they are ready. */
export async function* sampledImages(
  { runId, ...body }: SampleOrder,
  signal: AbortSignal,
): AsyncIterable<SampledImage> {
  for await (const event of events(runPath(runId, "/sample"), { body, signal })) {
    if (isImage(event)) yield event.data;
  }
}

function isImage(event: StreamEvent): event is StreamEvent & { readonly data: SampledImage } {
  const { data } = event;
  return typeof data === "object" && data !== null && "png" in data;
}

/** An image that came in a message, as a blob URL that ends with the signal. */
export function imageUrl({ png }: SampledImage, signal: AbortSignal): string {
  const bytes = Uint8Array.from(atob(png), (ch) => ch.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  return url;
}
