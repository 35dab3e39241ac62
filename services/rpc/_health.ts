import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../../proto/mod.ts";
import { StatusError } from "./errors.ts";
import { type GrpcService, grpcService } from "./grpc_service.ts";
import { raceAbort } from "../../base/mod.ts";

/** The health statuses of a server and their service, grpc.health.v1. */
export class HealthStatuses {
  readonly #statuses = new Map<string, ServingStatus>();
  #changed = Promise.withResolvers<void>();
  #closed = false;

  /** The service that answers them. */
  readonly service: GrpcService = grpcService(Health, {
    // deno-lint-ignore require-await -- a refusal must be a rejection
    check: async ({ service }) => {
      const status = this.#statuses.get(service);
      if (status !== undefined) return { status };
      throw new StatusError("NOT_FOUND", `Health of ${JSON.stringify(service)} is not known`);
    },
    watch: ({ service }, { signal }) => this.#watch(service, signal),
    list: () => {
      const entries = [...this.#statuses].map(([name, status]) => [name, { status }]);
      return Promise.resolve({ statuses: Object.fromEntries(entries) });
    },
  });

  /** Sets the status of a name; has no effect once closed. */
  set(name: string, serving: boolean): void {
    if (this.#closed) return;
    this.#statuses.set(name, serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
    this.#tell();
  }

  /** Says NOT_SERVING of everything, and ends all watches. */
  close(): void {
    this.#closed = true;
    for (const name of this.#statuses.keys()) this.#statuses.set(name, ServingStatus.NOT_SERVING);
    this.#tell();
  }

  #tell(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  async *#watch(name: string, signal: AbortSignal) {
    for (let last: ServingStatus | undefined;;) {
      const changed = this.#changed.promise;
      const status = this.#statuses.get(name) ?? ServingStatus.SERVICE_UNKNOWN;
      if (status !== last) yield { status: last = status };
      if (this.#closed) return;
      await raceAbort(changed, signal);
    }
  }
}
