import type { Events, Wait } from "./_events.ts";

/** Something that serves one after the other, in the order in which they came, at so many places. */
export class Server {
  /** Seconds that its places worked, together. */
  busySeconds = 0;
  readonly #events: Events;
  readonly #queue: { readonly seconds: number; readonly resume: () => void }[] = [];
  #free: number;

  constructor(events: Events, places: number) {
    this.#events = events;
    this.#free = places;
  }

  /** Waits for a place, and then for so many seconds. */
  serve(seconds: number): Wait {
    return (resume) => {
      this.#queue.push({ seconds, resume });
      this.#next();
    };
  }

  #next(): void {
    while (this.#free > 0) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      this.#free--;
      this.busySeconds += next.seconds;
      this.#events.after(next.seconds, () => {
        this.#free++;
        next.resume();
        this.#next();
      });
    }
  }
}

interface Transfer {
  left: number;
  readonly resume: () => void;
}

/** A line that all transfers on it share alike, none of which is quicker than its other end. */
export class Line {
  /** Seconds in which something was under way. */
  busySeconds = 0;
  readonly #events: Events;
  readonly #bytesPerSecond: number;
  readonly #mostEach: number;
  readonly #transfers = new Set<Transfer>();
  #since = 0;
  #schedules = 0;

  constructor(
    events: Events,
    { bytesPerSecond, mostEach }: { readonly bytesPerSecond: number; readonly mostEach: number },
  ) {
    this.#events = events;
    this.#bytesPerSecond = bytesPerSecond;
    this.#mostEach = mostEach;
  }

  /** Waits until so many bytes have gone over it. */
  transfer(bytes: number): Wait {
    return (resume) => {
      this.#advance();
      this.#transfers.add({ left: bytes, resume });
      this.#schedule();
    };
  }

  get #rate(): number {
    return Math.min(this.#mostEach, this.#bytesPerSecond / Math.max(1, this.#transfers.size));
  }

  #advance(): void {
    const seconds = this.#events.now - this.#since;
    this.#since = this.#events.now;
    if (this.#transfers.size === 0) return;
    this.busySeconds += seconds;
    const moved = seconds * this.#rate;
    for (const transfer of this.#transfers) transfer.left -= moved;
  }

  /** Schedules the end of the transfer that ends first; what comes between schedules anew. */
  #schedule(): void {
    const schedule = ++this.#schedules;
    if (this.#transfers.size === 0) return;
    const least = Math.min(...[...this.#transfers].map(({ left }) => left));
    // Those that end together do so, whatever rounding leaves of them.
    const ending = [...this.#transfers].filter(({ left }) => left <= least * (1 + 1e-9));
    this.#events.after(Math.max(0, least) / this.#rate, () => {
      if (schedule !== this.#schedules) return;
      this.#advance();
      for (const transfer of ending) this.#transfers.delete(transfer);
      for (const { resume } of ending) resume();
      this.#schedule();
    });
  }
}

/** Something that comes once, for any number who wait. */
export class Signal {
  #hasCome = false;
  #waiting: (() => void)[] = [];

  come(): void {
    this.#hasCome = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }

  readonly wait: Wait = (resume) => {
    if (this.#hasCome) resume();
    else this.#waiting.push(resume);
  };
}
