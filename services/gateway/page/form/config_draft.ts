import { ApiError, json } from "../api.ts";
import { textFault } from "../dialog.ts";
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

/**
 * A run's configuration while it is written: a text, and the last configuration that could be read of it. Whoever types
 * changes the text, a form changes fields in it. Announces "change".
 */
export class ConfigDraft extends EventTarget {
  readonly #signal: AbortSignal;
  #text = "";
  #config: RunConfig = {};
  #fault: DraftFault | undefined;
  /** Changes that wait for the ones before them to be in the text. */
  #changes: readonly FieldChange[] = [];
  #working: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(signal: AbortSignal) {
    super();
    this.#signal = signal;
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

  /** Puts another text in place. Checked when nobody has typed for a moment. */
  write(text: string): void {
    this.#text = text;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.settle(), CHECK_MS);
  }

  /** Changes fields in the text. Resolves as `settle` does. */
  change(changes: readonly FieldChange[]): Promise<boolean> {
    this.#changes = [...this.#changes, ...changes];
    return this.settle();
  }

  /** Resolves when the text holds all changes and is checked: to whether it can be read. */
  async settle(): Promise<boolean> {
    clearTimeout(this.#timer);
    const work = this.#working.then(() => this.#work());
    this.#working = work.catch(() => {});
    await work;
    return this.#fault === undefined;
  }

  async #work(): Promise<void> {
    const [text, changes] = [this.#text, this.#changes];
    if (this.#signal.aborted) return;
    try {
      const answer = await json<{ yaml: string; config: RunConfig }>("/v1/configs/edit", {
        body: { yaml: text, changes },
        signal: this.#signal,
      });
      // Somebody typed meanwhile: the changes belong into the new text.
      if (this.#text !== text) return await this.#work();
      this.#changes = this.#changes.slice(changes.length);
      // A text that was only checked stays as it was typed.
      if (changes.length > 0) this.#text = answer.yaml;
      [this.#config, this.#fault] = [answer.config, undefined];
    } catch (error) {
      if (this.#signal.aborted) return;
      if (this.#text !== text) return await this.#work();
      this.#changes = this.#changes.slice(changes.length);
      const line = error instanceof ApiError ? error.line : undefined;
      this.#fault = { message: textFault(error), line };
    }
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
