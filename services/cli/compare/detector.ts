import { decodeImage, loadReward, parseRewardConfig, type Reward } from "../../../rewards/mod.ts";
import type { ListedPrompt } from "./prompt_list.ts";

/** What a detector says of a picture. */
export interface Detected {
  /** The least sure of the wanted objects, 0 to 1. */
  readonly least: number;
  /** 1 where every wanted object is seen and none that is excluded, else 0. */
  readonly all: number;
}

/** What OWL-ViT must be as sure of to have seen an object: GenEval's threshold, for its own detector. */
export const SEEN = 0.3;

/**
 * Judges pictures by the objects that their prompts name, as GenEval does, with OWL-ViT for its detector: an object is
 * seen where the detector's score of its name, with its colour where one is asked for, is at least `SEEN`. How many there
 * are, and where they are, is not judged: the score has no boxes.
 *
 * @param weights folder of an OWL-ViT
 * @param pictures PNG files' bytes with the prompts they are of; of those without objects nothing is said
 */
export async function detectObjects(
  weights: string,
  pictures: readonly { readonly image: Uint8Array; readonly objects?: ListedPrompt["objects"] }[],
  { onProgress, signal }: {
    readonly onProgress: (done: number, total: number) => void;
    readonly signal: AbortSignal;
  },
): Promise<readonly (Detected | undefined)[]> {
  const queries = [
    ...new Set(
      pictures.flatMap(({ objects }) => [...objects?.include ?? [], ...objects?.exclude ?? []]),
    ),
  ];
  const scores = pictures.map(() => new Map<string, number>());
  for (const [done, query] of queries.entries()) {
    onProgress(done, queries.length);
    // One query is one graph: they come one after the other, so that memory is that of one.
    const reward = await loadReward(parseRewardConfig({ kind: "owlvit", weights, query }));
    try {
      for (const [i, { image, objects }] of pictures.entries()) {
        if (!objects?.include.includes(query) && !objects?.exclude.includes(query)) continue;
        scores[i]?.set(query, await scoreOf(reward, image, signal));
      }
    } finally {
      await reward.dispose();
    }
  }
  return pictures.map(({ objects }, i) => {
    if (objects === undefined) return undefined;
    const of = (query: string) => scores[i]?.get(query) ?? NaN;
    const included = objects.include.map(of);
    const isRight = included.every((v) => v >= SEEN) && objects.exclude.every((q) => of(q) < SEEN);
    return { least: Math.min(1, ...included), all: isRight ? 1 : 0 };
  });
}

async function scoreOf(reward: Reward, image: Uint8Array, signal: AbortSignal): Promise<number> {
  const { scores: [score = NaN] } = await reward.score(await decodeImage(image), [""], { signal });
  return score;
}
