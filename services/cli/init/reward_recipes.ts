/** How a reward of a stack is made of what `drtune fetch` brings. */
export interface RewardRecipe {
  /** Names to fetch, of `KNOWN_MODELS`; none where it has no weights. */
  readonly fetch: readonly string[];
  /** Its record; paths are in the folder of models. */
  readonly record: Readonly<Record<string, string | number>>;
}

/** The rewards that `drtune init` knows, by kind. */
export const REWARD_RECIPES: Readonly<Record<string, RewardRecipe>> = {
  hpsv2: {
    fetch: ["hpsv2.1"],
    record: {
      kind: "hpsv2",
      weights: "hpsv2.1/HPS_v2.1_compressed.pt",
      tokenizer: "hpsv2.1",
    },
  },
  pickscore: { fetch: ["pickscore"], record: { kind: "pickscore", weights: "pickscore" } },
  clip: { fetch: ["clip-l"], record: { kind: "clip", weights: "clip-l" } },
  aesthetic: {
    fetch: ["clip-l", "aesthetic"],
    record: { kind: "aesthetic", weights: "clip-l", head: "aesthetic/aesthetic-model.pth" },
  },
  owlvit: {
    fetch: ["owlvit"],
    record: { kind: "owlvit", weights: "owlvit", query: "book" },
  },
  symmetry: { fetch: [], record: { kind: "symmetry" } },
  jpeg: { fetch: [], record: { kind: "jpeg", quality: 80 } },
};
