import { backoff } from "../../base/mod.ts";

/** Waits before a replica that is away is asked again whether it is there, in milliseconds. */
const [FIRST_WAIT, LONGEST_WAIT] = [500, 10_000];

/** One of the servers that do the same. */
export class Replica<C> {
  /** Calls in progress. */
  busy = 0;
  /** What the replica serves, e.g. the digest of its weights. Undefined until it has said. */
  version: string | undefined;
  /** The replica failed, and has not answered since. */
  isAway = false;
  #waits = backoff({ first: FIRST_WAIT, longest: LONGEST_WAIT });
  #askAgainAt = 0;

  constructor(readonly address: string, readonly client: C) {}

  /** Whether it is time to ask it again. */
  get isDue(): boolean {
    return performance.now() >= this.#askAgainAt;
  }

  answered(version: string | undefined): void {
    if (this.isAway) this.#waits = backoff({ first: FIRST_WAIT, longest: LONGEST_WAIT });
    this.isAway = false;
    this.version = version ?? this.version;
  }

  failed(): void {
    this.isAway = true;
    this.askLater();
  }

  askLater(): void {
    this.#askAgainAt = performance.now() + this.#waits.next().value;
  }
}
