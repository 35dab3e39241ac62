import type { DescService } from "@bufbuild/protobuf";
import { orSilence } from "../../base/mod.ts";
import { Replica } from "./_replica.ts";
import { ReplicaChoice } from "./_replica_choice.ts";
import { retried } from "./_retry.ts";
import { StatusError, type StatusName } from "./errors.ts";
import {
  type CallOptions,
  type GrpcClient,
  grpcClient,
  type GrpcClientOptions,
} from "./grpc_client.ts";
import {
  ADDRESS_FORMS,
  type LookUp,
  parseReplicaAddresses,
  type ReplicaAddresses,
  replicaAddresses,
} from "./replica_addresses.ts";

/** A failure of one replica that another one need not have. */
const PASSING: ReadonlySet<StatusName> = new Set([
  ...["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "DATA_LOSS"] as const,
  ...["CANCELLED", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "ABORTED"] as const,
]);

/** Default of `watchMs`. */
const WATCH_MS = 2_000;
/** A name is looked up again after this long. */
const LOOK_UP_MS = 10_000;

/** How replicas are reached and told apart. */
export interface ReplicaPoolOptions<S extends DescService> extends GrpcClientOptions {
  /**
   * Asks one replica whether it is there, which one that computes answers at once, and for the version of what it
   * serves; undefined where there is none.
   */
  readonly probe: (client: GrpcClient<S>, call: CallOptions) => Promise<string | undefined>;
  /** Told once for each replica and version that no call is given to while others serve another version. */
  readonly onSetAside?: ((message: string) => void) | undefined;
  readonly lookUp?: LookUp;
  /**
   * How often the replica of a call in progress is asked whether it is there, and how long it has to say so, in
   * milliseconds. Default 2,000.
   */
  readonly watchMs?: number;
}

/** What one replica said. */
export interface Answered<T> {
  readonly address: string;
  readonly answer: T;
}

/** A deadline as a time, for one call on whichever replicas. */
interface Until {
  /** Milliseconds since the epoch. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * Replicas of a service behind one name. A call goes to the one that has least to do; where that fails, is lost or says
 * nothing of itself, the call is made again on another. Replicas that serve another version than the one in use are set
 * aside for as long as there is one that does serve it.
 */
export class ReplicaPool<S extends DescService> {
  readonly #descriptor: S;
  readonly #where: ReplicaAddresses;
  readonly #options: ReplicaPoolOptions<S>;
  readonly #watchMs: number;
  readonly #closed = new AbortController();
  readonly #told = new Set<string>();
  readonly #choice = new ReplicaChoice<GrpcClient<S>>();
  #lookedUpAt = -Infinity;

  /** @param endpoint see `parseReplicaAddresses`. Throws `StatusError` INVALID_ARGUMENT for another one */
  constructor(descriptor: S, endpoint: string, options: ReplicaPoolOptions<S>) {
    const where = parseReplicaAddresses(endpoint);
    if (where === undefined) {
      throw new StatusError(
        "INVALID_ARGUMENT",
        `Address is "${endpoint}", expected ${ADDRESS_FORMS}`,
      );
    }
    this.#descriptor = descriptor;
    this.#where = where;
    this.#options = options;
    this.#watchMs = options.watchMs ?? WATCH_MS;
    if (where.kind === "list") this.#replace(where.addresses);
  }

  /** Calls that can be made at a time with a replica for each; at least 1. */
  get width(): number {
    return Math.max(1, this.#choice.current.length);
  }

  /** The version in use: the one wanted, or that of the last answer. */
  get version(): string | undefined {
    return this.#choice.version;
  }

  /** Uses this version from now on, for as long as a replica serves it. */
  prefer(version: string): void {
    this.#choice.version = version;
  }

  /**
   * What a replica answers. Throws what the last one failed with, when all have, tried as often as the options' `retry`
   * says; the signal's reason; and what `work` throws beside a `StatusError` that another replica need not have.
   *
   * @param version of what an answer was made with; default: none
   */
  async ask<T>(
    work: (client: GrpcClient<S>, call: CallOptions) => Promise<T>,
    { timeoutMs = Infinity, signal }: CallOptions = {},
    version?: (answer: T) => string,
  ): Promise<T> {
    const until = { deadline: Date.now() + timeoutMs, signal };
    return await retried(() => this.#round(work, until, version), {
      retry: this.#options.retry,
      ...until,
    });
  }

  /**
   * What each replica answers that is not known to be away, or each at all where all are; in no order. `settleMs` after
   * the first answer the others are not waited for. Throws the first failure where there is no answer.
   */
  async askAll<T>(
    work: (client: GrpcClient<S>, call: CallOptions) => Promise<T>,
    { settleMs, version, ...call }: CallOptions & {
      readonly settleMs: number;
      readonly version: (answer: T) => string;
    },
  ): Promise<readonly [Answered<T>, ...(readonly Answered<T>[])]> {
    const deadline = Date.now() + (call.timeoutMs ?? Infinity);
    const { signal: closed } = this.#closed;
    const signal = call.signal ? AbortSignal.any([call.signal, closed]) : closed;
    await this.#follow();
    const there = this.#choice.there;
    const replicas = there.length > 0 ? there : this.#choice.replicas;
    const answers: Answered<T>[] = [];
    const failures: unknown[] = [];
    const asked = replicas.map(async (replica) => {
      try {
        const answer = await retried(() => this.#call(replica, work, { deadline, signal }), {
          ...{ retry: this.#options.retry, deadline, signal },
        });
        replica.answered(version(answer));
        answers.push({ address: replica.address, answer });
      } catch (error) {
        replica.failed();
        failures.push(error);
        throw error;
      }
    });
    await Promise.any(asked).catch(() => {});
    await orSilence(Promise.allSettled(asked), settleMs);
    const [first, ...others] = answers;
    if (first === undefined) throw failures[0] ?? this.#nobody();
    // Replicas that have not answered may be loading, or never come: what they serve is not known.
    for (const replica of replicas) if (replica.version === undefined) replica.failed();
    return [first, ...others];
  }

  /** The client of the replica that has least to do, for a stream. Throws `StatusError` UNAVAILABLE where there is none. */
  async leastBusy(): Promise<GrpcClient<S>> {
    await this.#follow();
    this.#askAgain();
    const replica = this.#choice.pick(new Set());
    if (replica === undefined) throw this.#nobody();
    return replica.client;
  }

  /** Closes all connections; calls in progress end. */
  close(): void {
    this.#closed.abort(new StatusError("CANCELLED", "The connection was closed"));
    for (const { client } of this.#choice.replicas) client.close();
  }

  /** One try on every replica there is, until one answers. */
  async #round<T>(
    work: (client: GrpcClient<S>, call: CallOptions) => Promise<T>,
    until: Until,
    version: ((answer: T) => string) | undefined,
  ): Promise<T> {
    await this.#follow();
    this.#askAgain();
    const tried = new Set<Replica<GrpcClient<S>>>();
    let failure: unknown;
    for (;;) {
      const replica = this.#choice.pick(tried);
      if (replica === undefined) throw failure ?? this.#nobody();
      tried.add(replica);
      try {
        const answer = await this.#watched(replica, work, until);
        const found = version?.(answer);
        replica.answered(found);
        if (found === undefined || found === "" || this.#choice.accepts(found)) return answer;
        failure = new StatusError(
          "UNAVAILABLE",
          `${replica.address} serves ${found}, others ${this.version}`,
        );
        this.#setAside(replica);
      } catch (error) {
        until.signal?.throwIfAborted();
        if (!(error instanceof StatusError) || !PASSING.has(error.status)) throw error;
        failure = error;
        // A full queue is no fault.
        if (error.status !== "RESOURCE_EXHAUSTED") replica.failed();
      }
    }
  }

  /** The call, given up where the replica says nothing of itself and another one could be asked. */
  async #watched<T>(
    replica: Replica<GrpcClient<S>>,
    work: (client: GrpcClient<S>, call: CallOptions) => Promise<T>,
    until: Until,
  ): Promise<T> {
    if (this.#choice.replicas.length === 1) return await this.#call(replica, work, until);
    const lost = new AbortController();
    const signal = until.signal ? AbortSignal.any([until.signal, lost.signal]) : lost.signal;
    const working = this.#call(replica, work, { ...until, signal });
    const settled = working.then(() => true, () => true);
    const others = () => this.#choice.current.some((other) => other !== replica);
    while (!await orSilence(settled, this.#watchMs)) {
      if (!others() || await Promise.any([settled, this.#probe(replica)]) || !others()) continue;
      lost.abort(
        new StatusError("UNAVAILABLE", `${replica.address} says nothing, nor whether it is there`),
      );
    }
    return await working;
  }

  async #call<T>(
    replica: Replica<GrpcClient<S>>,
    work: (client: GrpcClient<S>, call: CallOptions) => Promise<T>,
    { deadline, signal }: Until,
  ): Promise<T> {
    replica.busy++;
    try {
      const timeoutMs = Math.max(0, deadline - Date.now());
      return await work(replica.client, { timeoutMs, ...(signal && { signal }) });
    } finally {
      replica.busy--;
    }
  }

  /** Whether it says that it is there. */
  async #probe(replica: Replica<GrpcClient<S>>): Promise<boolean> {
    try {
      const call = { timeoutMs: this.#watchMs, signal: this.#closed.signal };
      replica.answered(await this.#options.probe(replica.client, call));
      return true;
    } catch {
      return false;
    }
  }

  /** Asks those that are away, or set aside, whether they may be used again. Nobody waits for it. */
  #askAgain(): void {
    for (const replica of this.#choice.replicas) {
      if (!replica.isDue || (!replica.isAway && this.#choice.isCurrent(replica))) continue;
      replica.askLater();
      void this.#probe(replica).then((isThere) => isThere || replica.failed());
    }
  }

  #setAside({ address, version }: Replica<GrpcClient<S>>): void {
    const key = `${address} ${version}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.#options.onSetAside?.(
      `${address} serves ${version} while other replicas serve ${this.version}: it is not asked`,
    );
  }

  /** Looks a name up, where that is due. Throws where it has no address and had none. */
  async #follow(): Promise<void> {
    if (this.#where.kind === "list" || performance.now() < this.#lookedUpAt + LOOK_UP_MS) return;
    try {
      this.#replace(await replicaAddresses(this.#where, this.#options.lookUp));
      this.#lookedUpAt = performance.now();
    } catch (error) {
      if (this.#choice.replicas.length === 0) throw error;
    }
  }

  #replace(addresses: readonly string[]): void {
    const { probe: _, ...options } = this.#options;
    // A call is tried again on another replica, not on the same.
    const { retry: __, ...once } = options;
    const serverName = this.#where.kind === "name" ? this.#where.endpoint.host : undefined;
    const known = new Map(this.#choice.replicas.map((replica) => [replica.address, replica]));
    this.#choice.replicas = addresses.map((address) =>
      known.get(address) ??
        new Replica(
          address,
          grpcClient(this.#descriptor, address, { ...once, ...(serverName && { serverName }) }),
        )
    );
    for (const [address, { client }] of known) if (!addresses.includes(address)) client.close();
  }

  #nobody(): StatusError {
    return new StatusError("UNAVAILABLE", "There is no replica");
  }
}
