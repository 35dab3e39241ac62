import { ApiError, json, mayPass } from "../api.ts";
import { faultText, textFault } from "../dialog.ts";
import type { RunConfig } from "../types.ts";

/** Names in camelCase and indices of lists. */
export type FieldPath = readonly (string | number)[];

/** A field, and what it is to be; null: it goes. */
export interface FieldChange {
  readonly path: FieldPath;
  readonly value: unknown;
}

/** What is wrong with the text. */
export interface DraftFault {
  readonly message: string;
  /** From 1; undefined where it is nobody's line. */
  readonly line: number | undefined;
}

/** The time somebody stops typing before a text is checked. */
const CHECK_MS = 350;

/** Waits before a gateway that is away is asked again: the first, then twice the one before. */
const [FIRST_WAIT_MS, LONGEST_WAIT_MS] = [500, 8000];

/** Changes that are not in the text yet, and what is called when they are, or are refused. */
interface Waiting {
  readonly changes: readonly FieldChange[];
  readonly done: () => void;
}

/**
 * A run's configuration while it is written: a text, and the last configuration that could be read of it. Whoever types
 * changes the text, a form changes fields in it. Announces "change".
 */
export class ConfigDraft extends EventTarget {
  readonly #signal: AbortSignal;
  #text = "";
  #config: RunConfig = {};
  #fault: DraftFault | undefined;
  #away: string | undefined;
  readonly #firstWaitMs: number;
  #waitMs: number;
  #waiting: readonly Waiting[] = [];
  #working: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(signal: AbortSignal, { firstWaitMs = FIRST_WAIT_MS } = {}) {
    super();
    this.#signal = signal;
    this.#firstWaitMs = this.#waitMs = firstWaitMs;
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  get text(): string {
    return this.#text;
  }
  /** Of the text, or while that has a fault of the last one that had none. */
  get config(): RunConfig {
    return this.#config;
  }
  get fault(): DraftFault | undefined {
    return this.#fault;
  }
  /** Why the gateway could not take the last changes, while that is so. They are kept, and it is asked again. */
  get away(): string | undefined {
    return this.#away;
  }

  /** Begins anew with a text: changes that wait were meant for the one before. */
  begin(text: string): Promise<boolean> {
    for (const { done } of this.#waiting) done();
    this.#waiting = [];
    this.write(text);
    return this.settle();
  }

  /** Puts another text in place. Checked when nobody has typed for a moment. */
  write(text: string): void {
    this.#text = text;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.settle(), CHECK_MS);
  }

  /** Changes fields in the text. Resolves when they are in it or are refused, however long the gateway is away. */
  async change(changes: readonly FieldChange[]): Promise<void> {
    const { promise, resolve: done } = Promise.withResolvers<void>();
    this.#waiting = [...this.#waiting, { changes, done }];
    void this.settle();
    await promise;
  }

  /** Resolves when the gateway was asked: to whether the text holds all changes and can be read. */
  async settle(): Promise<boolean> {
    clearTimeout(this.#timer);
    const work = this.#working.then(() => this.#work());
    this.#working = work.catch(() => {});
    await work;
    return this.#fault === undefined && this.#away === undefined;
  }

  async #work(): Promise<void> {
    const [text, waiting] = [this.#text, this.#waiting];
    if (this.#signal.aborted) return;
    const changes = waiting.flatMap((one) => one.changes);
    const settled = () => {
      this.#waiting = this.#waiting.filter((one) => !waiting.includes(one));
      [this.#away, this.#waitMs] = [undefined, this.#firstWaitMs];
    };
    try {
      const answer = await json<{ yaml: string; config: RunConfig }>("/v1/configs/edit", {
        body: { yaml: text, changes },
        signal: this.#signal,
      });
      // Somebody typed meanwhile: the changes belong into the new text.
      if (this.#text !== text) return await this.#work();
      settled();
      // A text that was only checked stays as it was typed.
      if (changes.length > 0) this.#text = answer.yaml;
      [this.#config, this.#fault] = [answer.config, undefined];
    } catch (error) {
      if (this.#signal.aborted) return;
      if (mayPass(error)) return this.#askAgain(error);
      if (this.#text !== text) return await this.#work();
      settled();
      const line = error instanceof ApiError ? error.line : undefined;
      this.#fault = { message: textFault(error), line };
    }
    this.dispatchEvent(new Event("change"));
    for (const { done } of waiting) done();
  }

  #askAgain(error: unknown): void {
    this.#away = faultText(error);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.settle(), this.#waitMs);
    this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
    this.dispatchEvent(new Event("change"));
  }
}

/** The value at a path; undefined where there is none. */
export function valueAt(config: unknown, path: FieldPath): unknown {
  let value = config;
  for (const name of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Reflect.get(value, name);
  }
  return value;
}
