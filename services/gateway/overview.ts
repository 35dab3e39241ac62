import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { RewardDescriptionSchema, RunSchema, type TrainerService } from "../../proto/mod.ts";
import { type Logger, raceAbort } from "../../base/mod.ts";
import { allRuns, type GrpcClient } from "../rpc/mod.ts";
import type { ServerEvent } from "./event_stream.ts";
import { toHttpError } from "./http_error.ts";
import type { RewardServers } from "./reward_routes.ts";
import { messageJson } from "./rpc_routes.ts";

/** A service as the gateway finds it; of a reward server that answers, with its rewards. */
type ServiceHealth = JsonObject & {
  /** Name among the reward servers, or "trainer". */
  readonly name: string;
  /** "host:port" or "grpcs://host:port". */
  readonly address: string;
  /** The service answers. */
  readonly ready: boolean;
  /** Why the service does not answer. */
  readonly reason: string;
};

const RUNS_EVERY_MS = 1000;
const SERVICES_EVERY_MS = 5000;
const TIMEOUT_MS = 5000;

/**
 * All runs and services, followed for as long as somebody watches: the trainer and the reward servers are asked once
 * for all watchers, who are told only what changed.
 */
export class Overview {
  readonly #trainer: GrpcClient<typeof TrainerService>;
  readonly #trainerAddress: string;
  readonly #rewards: RewardServers;
  readonly #log: Logger;
  readonly #watchers = new Set<() => void>();
  #runs: ReadonlyMap<string, JsonValue> | undefined;
  #services: JsonObject | undefined;
  #stop: (() => void) | undefined;
  #asked: Promise<ServiceHealth> | undefined;

  constructor(
    { trainer, trainerAddress, rewards, log }: {
      readonly trainer: GrpcClient<typeof TrainerService>;
      readonly trainerAddress: string;
      readonly rewards: RewardServers;
      readonly log: Logger;
    },
  ) {
    this.#trainer = trainer;
    this.#trainerAddress = trainerAddress;
    this.#rewards = rewards;
    this.#log = log;
  }

  /** Asks every service now. */
  async services(): Promise<JsonObject & { readonly trainer: ServiceHealth }> {
    const [trainer, ...rewards] = await Promise.all([
      this.#trainerHealth(),
      ...[...this.#rewards].map(([name, { address, client }]) =>
        this.#health({ name, address }, async () => {
          const { rewards } = await client.describe({}, { timeoutMs: TIMEOUT_MS });
          return { rewards: rewards.map((r) => messageJson(RewardDescriptionSchema, r)) };
        })
      ),
    ]);
    return { trainer, rewards };
  }

  /** Whether the trainer answers. Anybody may ask, without a token: it is asked once for all who ask meanwhile. */
  async trainerIsReady(): Promise<boolean> {
    this.#asked ??= this.#trainerHealth().finally(() => this.#asked = undefined);
    return (await this.#asked).ready;
  }

  /**
   * Events "run" (a run that is new or changed), "deleted" (its id), "services" (as `services`), and "ready" once
   * everything there is has been told.
   */
  async *watch(signal: AbortSignal): AsyncIterable<ServerEvent> {
    let changed = Promise.withResolvers<void>();
    const wake = () => changed.resolve();
    this.#watchers.add(wake);
    this.#stop ??= this.#start();
    const told = new Map<string, JsonValue>();
    let toldServices: JsonObject | undefined;
    let ready = false;
    try {
      while (true) {
        signal.throwIfAborted();
        const [runs, services] = [this.#runs, this.#services];
        changed = Promise.withResolvers<void>();
        if (services !== undefined && services !== toldServices) {
          yield { event: "services", data: toldServices = services };
        }
        for (const [id, run] of runs ?? []) {
          if (told.get(id) === run) continue;
          told.set(id, run);
          yield { event: "run", data: run };
        }
        for (const id of runs ? told.keys() : []) {
          if (runs?.has(id)) continue;
          told.delete(id);
          yield { event: "deleted", data: { id } };
        }
        if (!ready && runs !== undefined && services !== undefined) {
          ready = true;
          yield { event: "ready", data: {} };
        }
        if (runs === this.#runs && services === this.#services) {
          await raceAbort(changed.promise, signal);
        }
      }
    } finally {
      this.#watchers.delete(wake);
      if (this.#watchers.size === 0) {
        this.#stop?.();
        this.#stop = undefined;
      }
    }
  }

  /** Asks again and again until told to stop. */
  #start(): () => void {
    let stopped = false;
    const wake = () => this.#watchers.forEach((watcher) => watcher());
    const timers = new Map<number, ReturnType<typeof setTimeout>>();
    const every = (ms: number, ask: () => Promise<void>) => {
      const again = async () => {
        await ask();
        if (!stopped) timers.set(ms, setTimeout(again, ms));
      };
      void again();
    };
    every(RUNS_EVERY_MS, async () => {
      // When the trainer is away the runs stay as they were; the services say that it is.
      const runs = await this.#listRuns().catch(() => undefined);
      if (stopped || runs === undefined) return;
      this.#runs = kept(this.#runs, runs);
      wake();
    });
    every(SERVICES_EVERY_MS, async () => {
      const services = await this.services();
      if (stopped || same(services, this.#services)) return;
      this.#services = services;
      // Without a trainer there are no runs to wait for; with one they are on their way.
      if (!services.trainer.ready) this.#runs ??= new Map();
      wake();
    });
    return () => {
      stopped = true;
      timers.forEach((timer) => clearTimeout(timer));
      [this.#runs, this.#services] = [undefined, undefined];
    };
  }

  async #listRuns(): Promise<Map<string, JsonValue>> {
    const runs = await allRuns(this.#trainer, { timeoutMs: TIMEOUT_MS });
    return new Map(runs.map((run) => [run.id, messageJson(RunSchema, run)]));
  }

  #trainerHealth(): Promise<ServiceHealth> {
    return this.#health({ name: "trainer", address: this.#trainerAddress }, async () => {
      await this.#trainer.listRuns({ pageSize: 1 }, { timeoutMs: TIMEOUT_MS });
      return {};
    });
  }

  async #health(
    service: { readonly name: string; readonly address: string },
    ask: () => Promise<JsonObject>,
  ): Promise<ServiceHealth> {
    try {
      return { ...service, ready: true, reason: "", ...await ask() };
    } catch (error) {
      const { message } = toHttpError(error, this.#log, { service: service.name });
      return { ...service, ready: false, reason: message };
    }
  }
}

/** The new runs; those that did not change are the old objects. The old map where nothing changed. */
function kept(
  old: ReadonlyMap<string, JsonValue> | undefined,
  fresh: ReadonlyMap<string, JsonValue>,
): ReadonlyMap<string, JsonValue> {
  if (old === undefined) return fresh;
  const merged = new Map(
    [...fresh].map(([id, run]) => {
      const before = old.get(id);
      return [id, before !== undefined && same(before, run) ? before : run];
    }),
  );
  const unchanged = merged.size === old.size &&
    [...merged].every(([id, run]) => old.get(id) === run);
  return unchanged ? old : merged;
}

function same(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
