import { json } from "./api.ts";
import type { ServedReward } from "./form/served_rewards.ts";
import { readPrompt } from "./prompt_reading.ts";

/** What a served reward, which reads what its term says, finds of a PNG file, in base64, drawn for a prompt. Throws `ApiError`. */
export async function scoreImage(
  { service, description, term }: ServedReward,
  { png, prompt }: { readonly png: string; readonly prompt: string },
  signal: AbortSignal,
): Promise<number> {
  const { scores } = await json<{ readonly scores: readonly (number | string)[] }>(
    `/v1/rewards/${encodeURIComponent(service.name)}/score`,
    {
      body: {
        images: [{ encoded: png }],
        prompts: [readPrompt(prompt, term)],
        ...(description && { reward: description.name }),
      },
      signal,
    },
  );
  return Number(scores[0]);
}
