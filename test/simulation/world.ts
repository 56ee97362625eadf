/** A rule was violated. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

interface Happening {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

const traceLinesMax = 400;

/**
 * The time and the random numbers of one simulation. All events are entries of one queue and drawn
 * from one seed, so a seed determines the run. Between two entries all promises run until they
 * wait. That takes one turn of the event loop, a tenth of the time of the fake clock in other
 * tests.
 */
export class World {
  nowMs = 1_000_000;
  happenings = 0;
  /** The number of events of each kind that runs must reach. */
  readonly counted = new Map<string, number>();
  readonly trace: string[] = [];
  #violation: Error | null = null;
  #state: number;
  #order = 0;
  #ids = 0;
  readonly #queue: Happening[] = [];

  constructor(seed: number) {
    // The state is mixed, so that adjacent seeds give unrelated runs.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 0;
    for (let round = 0; round < 4; round++) this.fraction();
  }

  /** Uniform in [0, 1). */
  fraction = (): number => {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };

  between(low: number, high: number): number {
    return low + this.fraction() * (high - low);
  }

  /** A whole number from `low` to `high`, inclusive. */
  whole(low: number, high: number): number {
    return low + Math.floor(this.fraction() * (high - low + 1));
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(among: readonly T[]): T | undefined {
    return among[Math.floor(this.fraction() * among.length)];
  }

  id(): string {
    return String(this.#ids++);
  }

  /** Calls `run` after `delayMs`. The returned function cancels the call. */
  after(delayMs: number, run: () => void): () => void {
    const happening = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, run, cancelled: false };
    this.#push(happening);
    return () => {
      happening.cancelled = true;
    };
  }

  pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  count(what: string): void {
    this.counted.set(what, (this.counted.get(what) ?? 0) + 1);
  }

  note(line: string): void {
    this.trace.push(`${((this.nowMs - 1_000_000) / 1_000).toFixed(3).padStart(8)}  ${line}`);
    if (this.trace.length > traceLinesMax * 2) this.trace.splice(0, traceLinesMax);
  }

  /** Ends the run. The first violation is the one that counts. */
  violated(error: Error | string): void {
    this.#violation ??= typeof error === 'string' ? new Violation(error) : error;
  }

  /** Ends the run unless `holds`. */
  demand(holds: boolean, what: () => string): void {
    if (!holds) this.violated(what());
  }

  /**
   * Lets time pass until `done` is true, which is checked after each event, or for `forMs`.
   * @returns the result of `done`.
   */
  async run(forMs: number, done: () => boolean = () => false): Promise<boolean> {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      // In this turn of the event loop all promises run until they wait.
      await new Promise(setImmediate);
      if (this.#violation !== null) throw this.#violation;
      if (done()) return true;
      while (this.#queue[0]?.cancelled === true) this.#pop();
      const next = this.#queue[0];
      if (next === undefined || next.atMs > untilMs) {
        this.nowMs = untilMs;
        return false;
      }
      this.#pop();
      this.nowMs = Math.max(this.nowMs, next.atMs);
      this.happenings++;
      next.run();
    }
  }

  /** The queue is a heap, sorted by time and then by order of insertion. */
  #push(happening: Happening): void {
    const queue = this.#queue;
    let at = queue.push(happening) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(queue[parent]!, happening)) break;
      queue[at] = queue[parent]!;
      at = parent;
    }
    queue[at] = happening;
  }

  #pop(): void {
    const queue = this.#queue;
    const last = queue.pop()!;
    if (queue.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= queue.length) break;
      if (child + 1 < queue.length && isBefore(queue[child + 1]!, queue[child]!)) child++;
      if (isBefore(last, queue[child]!)) break;
      queue[at] = queue[child]!;
      at = child;
    }
    queue[at] = last;
  }
}

function isBefore(a: Happening, b: Happening): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
