import type { StreamEvent } from "./api.ts";
import { type Connection, follow } from "./follow.ts";
import type { Run, Services } from "./types.ts";

/** All runs and services, kept up to date; announces "change". */
export class OverviewStore extends EventTarget {
  readonly runs = new Map<string, Run>();
  services: Services | undefined;
  /** Everything there is has arrived once. */
  ready = false;
  connection: Connection = "open";
  error: Error | undefined;
  /** What arrived since the connection, to tell what is gone. */
  #seen = new Set<string>();

  /** Runs, newest first. */
  get newestFirst(): Run[] {
    return [...this.runs.values()].sort((a, b) =>
      Date.parse(b.createdAt ?? "") - Date.parse(a.createdAt ?? "")
    );
  }

  /** Follows the server until told to stop. */
  start(signal: AbortSignal): void {
    void follow(() => "/v1/overview", {
      signal,
      onEvent: (event) => {
        this.#take(event);
        this.dispatchEvent(new Event("change"));
      },
      onConnection: (connection, error) => {
        if (connection === this.connection && error === this.error) return;
        if (connection !== "open") this.#seen = new Set();
        [this.connection, this.error] = [connection, error];
        this.dispatchEvent(new Event("change"));
      },
    });
  }

  /** Resolves when everything there is has arrived; never once the signal aborts. */
  async whenReady(signal: AbortSignal): Promise<void> {
    if (this.ready) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.addEventListener("change", () => {
      if (this.ready) resolve();
    }, { signal });
    await promise;
  }

  #take({ event, data }: StreamEvent): void {
    if (event === "services" && isServices(data)) this.services = data;
    else if (event === "run" && isRun(data)) {
      this.runs.set(data.id, data);
      this.#seen.add(data.id);
    } else if (event === "deleted" && isRun(data)) this.runs.delete(data.id);
    else if (event === "ready") {
      this.ready = true;
      for (const id of this.runs.keys()) if (!this.#seen.has(id)) this.runs.delete(id);
    }
  }
}

function isRun(data: unknown): data is Run {
  return typeof data === "object" && data !== null && "id" in data;
}

function isServices(data: unknown): data is Services {
  return typeof data === "object" && data !== null && "trainer" in data && "rewards" in data;
}
