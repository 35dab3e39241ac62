import { raceAbort } from "../../base/mod.ts";
import { checkMixture } from "./check_rewards.ts";
import type { RewardClients } from "./_reward_clients.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import { RunStateError } from "./run_errors.ts";
import type { RunState } from "./run_events.ts";

/** A run whose mixture changes. */
interface ChangingRun {
  readonly id: string;
  readonly config: RunConfig;
  readonly state: RunState;
  readonly ended: boolean;
  readonly rewards: readonly RewardTerm[];
}

/** Changes of a run's mixture, made one after the other: each is of what those before left. */
export class MixtureChanges {
  readonly #run: ChangingRun;
  readonly #clients: RewardClients;
  readonly #emit: (rewards: readonly RewardTerm[]) => Promise<number>;
  #last: Promise<void> = Promise.resolve();

  constructor(
    run: ChangingRun,
    { clients, emit }: {
      readonly clients: RewardClients;
      /** Has the run train with a mixture, and says how many iterations are done under the old one. */
      readonly emit: (rewards: readonly RewardTerm[]) => Promise<number>;
    },
  ) {
    this.#run = run;
    this.#clients = clients;
    this.#emit = emit;
  }

  /**
   * Changes the mixture from the next iteration on, once the new rewards have answered; an iteration that waits for a
   * reward begins again with the new mixture. Returns the mixture, and how many iterations are done under the old one.
   * Throws `FieldError` for rewards that cannot read the run's prompts, and `RunStateError` where the run has ended.
   */
  async make(
    of: (present: readonly RewardTerm[]) => readonly RewardTerm[],
    signal: AbortSignal | undefined,
  ): Promise<{ readonly step: number; readonly rewards: readonly RewardTerm[] }> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = before.then(() => promise);
    try {
      await raceAbort(before, signal);
      this.#checkState();
      const rewards = of(this.#run.rewards);
      await this.#connect(rewards, signal);
      return { step: await this.#emit(rewards), rewards };
    } finally {
      resolve();
    }
  }

  async #connect(rewards: readonly RewardTerm[], signal: AbortSignal | undefined): Promise<void> {
    const { config } = this.#run;
    checkMixture(rewards, { ...config, lines: [...config.prompts, ...config.heldOutPrompts] });
    try {
      await this.#clients.connected(rewards, signal);
      this.#checkState();
    } catch (error) {
      // Of several new ones some may have answered: nobody needs those.
      const { ended, rewards: present } = this.#run;
      await this.#clients.keep(ended ? [] : [...present, ...panelTerms(config)]);
      throw error;
    }
  }

  #checkState(): void {
    const { id, state, ended } = this.#run;
    if (ended) throw new RunStateError(`Run "${id}" is ${state}: its rewards stay`);
  }
}

function panelTerms({ panel }: RunConfig): readonly RewardTerm[] {
  return panel.rewards.map((reward) => ({ ...reward, weight: 0 }));
}
