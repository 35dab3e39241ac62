import type { Replica } from "./_replica.ts";

/** Which replica is asked next. Those that serve another version than the one in use wait until nobody serves that. */
export class ReplicaChoice<C> {
  replicas: readonly Replica<C>[] = [];
  /** The version in use: the one wanted, or that of the last answer. Undefined before both. */
  version: string | undefined;
  #turn = 0;

  /** Those that are not known to be away. */
  get there(): readonly Replica<C>[] {
    return this.replicas.filter(({ isAway }) => !isAway);
  }

  /** Those that are there and may serve the version in use. */
  get current(): readonly Replica<C>[] {
    return this.there.filter((replica) => this.isCurrent(replica));
  }

  /** Whether it serves the version in use, as far as is known. */
  isCurrent(replica: Replica<C>): boolean {
    return this.version === undefined || replica.version === undefined || this.#serves(replica);
  }

  /** Whether an answer of this version may be used; from then on it is the one in use. */
  accepts(found: string): boolean {
    if (found !== this.version && this.there.some((replica) => this.#serves(replica))) return false;
    this.version = found;
    return true;
  }

  /** One that was not tried: of the version in use, else any, else one that is away; of those the least busy. */
  pick(tried: ReadonlySet<Replica<C>>): Replica<C> | undefined {
    const choices = [this.current, this.there, this.replicas].map((replicas) =>
      replicas.filter((replica) => !tried.has(replica))
    );
    const choice = choices.find(({ length }) => length > 0) ?? [];
    const least = Math.min(...choice.map(({ busy }) => busy));
    const idle = choice.filter(({ busy }) => busy === least);
    return idle[this.#turn++ % Math.max(1, idle.length)];
  }

  #serves({ version }: Replica<C>): boolean {
    return version !== undefined && version === this.version;
  }
}
