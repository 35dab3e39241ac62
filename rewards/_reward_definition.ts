import type { Builder, Value } from "../autodiff/mod.ts";
import type { PixelRecipe } from "./preprocess/mod.ts";
import type { Direction, Images } from "./reward.ts";

/** How a reward turns text into what its `score` reads. */
export interface TextDefinition {
  /** Token ids of a text, cut and padded to the same length for every text. */
  readonly encode: (text: string) => readonly number[];
  /** How many tokens of a text are read, begin and end included. */
  readonly tokens: number;
  /** Whether a text has more, so that its end is cut off. */
  readonly cuts: (text: string) => boolean;
  /** Appends the embeddings [B, D] of token ids, int64 [B, N]. */
  readonly embed: (b: Builder, ids: Value) => Value;
  /** The text that is embedded instead of the prompt; the reward then reads no prompt. */
  readonly query?: string;
}

/** What a kind of reward consists of: graph-writing functions and facts. Running it is the same for all. */
export interface RewardDefinition {
  readonly direction: Direction;
  /** Lowest and highest score. */
  readonly range: readonly [number, number];
  /** How images become the pixels `score` reads; without one it reads images of any size as they are. */
  readonly recipe?: PixelRecipe;
  readonly text?: TextDefinition;
  /** Most images that one graph can take. Default: any number. */
  readonly maxBatch?: number;
  /** Appends the scores [B] of pixels float32 [B, 3, h, w] in [0, 1] and, with a `text`, its embeddings [B, D]. */
  readonly score: (b: Builder, pixels: Value, text?: Value) => Value;
  /** Folder of the weights the graphs refer to. */
  readonly weightsRoot?: string;
  /** All that the score depends on, as JSON: options, configurations and digests of files, but no paths. */
  readonly identity: () => unknown;
  /** Set where somebody else wrote the graph, which the runtime then optimizes. */
  readonly isForeign?: boolean;
  /** Set where the gradient is by definition not the derivative of the score, and thus not comparable to it. */
  readonly isSurrogate?: boolean;
  /** Set where the score is rounded to float16 on the way. */
  readonly computesInHalf?: boolean;
  /** What follows where the check on load fails. Default "refuse". */
  readonly check?: "refuse" | "warn";
  /** What was assumed on loading and may be wrong, a sentence each. */
  readonly warnings?: readonly string[];
  readonly extras?: (images: Images) => Promise<Readonly<Record<string, Float32Array>>>;
}
