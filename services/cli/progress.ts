/** Progress on stderr: one line rewritten in place on a terminal, a line every few seconds elsewhere. */
export class Progress {
  readonly #started = performance.now();
  #first: Mark | undefined;
  readonly #terminal = Deno.stderr.isTerminal();
  readonly #quiet: boolean;
  #last = -Infinity;
  #open = false;
  /** The last line has been written. */
  #isDone = false;

  constructor({ quiet = false }: { readonly quiet?: boolean } = {}) {
    this.#quiet = quiet;
  }

  /**
   * Shows how far it is; time left is estimated from the pace since the first thing was done, before which models load,
   * unless the caller knows better.
   */
  update(
    { done, total, note = "", secondsLeft }: {
      readonly done: number;
      readonly total: number;
      readonly note?: string;
      readonly secondsLeft?: number;
    },
  ): void {
    if (this.#quiet || (this.#isDone && done >= total)) return;
    const now = performance.now();
    if (done > 0) this.#first ??= { at: now, done };
    const ended = done >= total;
    // A log file is not flooded: a line each five seconds, and the last one always.
    if (!ended && now - this.#last < (this.#terminal ? 100 : 5000)) return;
    this.#last = now;
    const left = secondsLeft ?? secondsLeftAt({ at: now, done }, { first: this.#first, total });
    const time = ended
      ? `${duration((now - this.#started) / 1000)} in all`
      : left === undefined
      ? ""
      : `${duration(left)} left`;
    this.#write(
      [`${bar(done / Math.max(total, 1))} ${done}/${total}`, time, note].filter(Boolean).join("  "),
    );
    this.#isDone = ended;
    if (ended) this.end();
  }

  /** `update` of bytes, shown in megabytes; it ends with the last byte and no sooner. */
  updateBytes(
    { done, total, note }: { readonly done: number; readonly total: number; readonly note: string },
  ): void {
    const all = Math.ceil(total / 1e6);
    const whole = done >= total ? all : Math.min(Math.floor(done / 1e6), all - 1);
    this.update({ done: whole, total: all, note: `MB  ${note}` });
  }

  /** Says one thing on a line of its own, without breaking the progress line. */
  say(text: string): void {
    if (this.#quiet) return;
    this.end();
    console.error(text);
  }

  /** Leaves the progress line as it is and goes on below it. Safe to call twice. */
  end(): void {
    if (this.#open) console.error("");
    this.#open = false;
  }

  #write(line: string): void {
    if (!this.#terminal) {
      console.error(line);
      return;
    }
    let room = 100;
    try {
      room = Deno.consoleSize().columns - 1;
    } catch {
      // No size is known: keep the default.
    }
    Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[2K${line.slice(0, room)}`));
    this.#open = true;
  }
}

interface Mark {
  /** Milliseconds. */
  readonly at: number;
  readonly done: number;
}

/** Seconds that are left at the pace since `first`; undefined where there is none yet. */
export function secondsLeftAt(
  { at, done }: Mark,
  { first, total }: { readonly first: Mark | undefined; readonly total: number },
): number | undefined {
  if (first === undefined || done <= first.done) return undefined;
  return (at - first.at) / 1000 / (done - first.done) * (total - done);
}

function bar(share: number): string {
  const full = Math.round(Math.min(Math.max(share, 0), 1) * 20);
  return `[${"=".repeat(full)}${" ".repeat(20 - full)}]`;
}

/** "8 s", "3 min 20 s", "2 h 5 min", "3 d 4 h". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}
