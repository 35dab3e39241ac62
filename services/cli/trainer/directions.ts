import type { RewardTerm } from "../../../proto/mod.ts";
import { RemoteReward } from "../../rpc/mod.ts";

/** Longest a reward's service is waited for, in milliseconds. */
const PATIENCE_MS = 2000;

type Term = Pick<RewardTerm, "name" | "endpoint" | "reward">;

/** Which way rewards are better, as their services say, each asked once. */
export class Directions {
  readonly #isLower = new Map<string, Promise<boolean>>();

  /**
   * Names of those among a run's rewards of which lower is better. Services that do not answer from here in a moment are
   * left out: what is shown does not wait for them.
   */
  async lower(terms: readonly Term[], signal?: AbortSignal): Promise<ReadonlySet<string>> {
    const names = await Promise.all(terms.map(async (term) => {
      const key = `${term.endpoint} ${term.reward}`;
      const asked = this.#isLower.get(key) ?? isLower(term, signal);
      this.#isLower.set(key, asked);
      return await asked ? [term.name] : [];
    }));
    return new Set(names.flat());
  }
}

async function isLower({ endpoint, reward }: Term, signal?: AbortSignal): Promise<boolean> {
  try {
    const options = { reward, connectMs: PATIENCE_MS, ...(signal && { signal }) };
    const service = await RemoteReward.connect(endpoint, options);
    const { direction } = service.info;
    await service.dispose();
    return direction === "minimise";
  } catch {
    signal?.throwIfAborted();
    return false;
  }
}
