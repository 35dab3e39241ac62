import { Builder, int64 } from "../autodiff/mod.ts";
import { raceAbort } from "../base/mod.ts";
import type { TextDefinition } from "./_reward_definition.ts";
import type { RewardSessions } from "./_reward_sessions.ts";

/** How many texts' embeddings are kept. */
const CAPACITY = 4096;

/** A text that is or will be embedded. */
interface Embedded {
  /** [D]. */
  readonly embedding: Promise<Float32Array>;
  /** Whether its end was cut off. */
  readonly truncated: boolean;
}

/** Embeddings of texts, each computed once while it is remembered. */
export class TextEmbedder {
  readonly #text: TextDefinition;
  readonly #sessions: RewardSessions;
  /** In the order of last use. */
  readonly #known = new Map<string, Embedded>();

  constructor(text: TextDefinition, sessions: RewardSessions) {
    this.#text = text;
    this.#sessions = sessions;
  }

  /** The embedding of a text. Who aborts stops waiting for it; it is computed all the same, for others may wait too. */
  embed(text: string, signal?: AbortSignal): Embedded {
    const embedded = this.#known.get(text) ??
      { embedding: this.#compute(text), truncated: this.#text.cuts(text) };
    this.#known.delete(text);
    this.#known.set(text, embedded);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= CAPACITY) break;
      this.#known.delete(oldest);
    }
    return { ...embedded, embedding: raceAbort(embedded.embedding, signal) };
  }

  #compute(text: string): Promise<Float32Array> {
    const ids = this.#text.encode(text);
    const shape = [1, ids.length];
    const write = () => {
      const b = new Builder();
      const input = b.input("ids", { dtype: "int64", shape });
      return { b, outputs: { embedding: this.#text.embed(b, input) } };
    };
    const embedding = this.#sessions.use(`text ${ids.length}`, write, async (session) => {
      const feeds = { ids: int64(BigInt64Array.from(ids, BigInt), shape) };
      const { embedding } = await session.run(feeds);
      if (embedding?.dtype !== "float32") throw new TypeError("Text graph gives no float32");
      return embedding.data;
    });
    embedding.catch(() => this.#known.delete(text));
    return embedding;
  }
}
