/** What a process waits for: it is given a function to call when that has come. */
export type Wait = (resume: () => void) => void;

/** A course of events that waits now and then. */
export type Course = Generator<Wait, void, void>;

/** A process of the simulation. */
export interface Process {
  /** The process goes no further. */
  isOver: boolean;
}

interface Event {
  readonly at: number;
  /** Of events at the same time the one scheduled first comes first, so that a run repeats itself. */
  readonly order: number;
  readonly happen: () => void;
}

/** Discrete events: a clock that jumps from one to the next. */
export class Events {
  /** Seconds since the beginning. */
  now = 0;
  readonly #heap: Event[] = [];
  #scheduled = 0;

  /** Schedules something in so many seconds. */
  after(seconds: number, happen: () => void): void {
    const heap = this.#heap;
    heap.push({ at: this.now + seconds, order: this.#scheduled++, happen });
    for (let i = heap.length - 1; i > 0;) {
      const parent = (i - 1) >> 1;
      if (!this.#swapIfEarlier(i, parent)) break;
      i = parent;
    }
  }

  /** Begins a course, at once. */
  spawn(course: Course): Process {
    const process: Process = { isOver: false };
    const go = () => {
      if (process.isOver) return;
      const { done, value } = course.next();
      if (done) process.isOver = true;
      else value(go);
    };
    go();
    return process;
  }

  /** Lets events happen until there is none, or until told. Throws `RangeError` where there is none before that. */
  run(isDone: () => boolean): void {
    while (!isDone()) {
      const next = this.#take();
      if (next === undefined) throw new RangeError("Nothing happens any more");
      this.now = next.at;
      next.happen();
    }
  }

  #take(): Event | undefined {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    heap[0] = last;
    for (let i = 0;;) {
      const left = 2 * i + 1;
      const child = this.#isEarlier(left + 1, left) ? left + 1 : left;
      if (!this.#swapIfEarlier(child, i)) return first;
      i = child;
    }
  }

  #isEarlier(i: number, j: number): boolean {
    const [a, b] = [this.#heap[i], this.#heap[j]];
    return a !== undefined && b !== undefined &&
      (a.at < b.at || (a.at === b.at && a.order < b.order));
  }

  #swapIfEarlier(i: number, j: number): boolean {
    const [a, b] = [this.#heap[i], this.#heap[j]];
    if (a === undefined || b === undefined || !this.#isEarlier(i, j)) return false;
    [this.#heap[i], this.#heap[j]] = [b, a];
    return true;
  }
}
