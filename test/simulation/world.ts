/** Something that must not happen has happened. */
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
 * The time and the chance of one simulation. Everything that happens is an entry of one queue and is drawn from one seed, so
 * that a seed is a whole run. Between two entries every promise runs to where it waits; that takes one turn of the event loop,
 * a tenth of what the clock that other tests share would take.
 */
export class World {
  nowMs = 1_000_000;
  happenings = 0;
  /** How often each kind of thing happened that a run is for. */
  readonly counted = new Map<string, number>();
  readonly trace: string[] = [];
  #violation: Error | null = null;
  #state: number;
  #order = 0;
  #ids = 0;
  readonly #queue: Happening[] = [];

  constructor(seed: number) {
    // Neighbouring seeds are to give runs that have nothing in common.
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

  /** A whole number, both ends included. */
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

  /** Calls `run` in so many milliseconds. The returned function cancels it. */
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

  /** Lets time pass until `done`, which is asked after each happening, or until the time is over. @returns whether `done`. */
  async run(forMs: number, done: () => boolean = () => false): Promise<boolean> {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      // What was promised runs to where it waits.
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

  /** Queue as a heap: by time, those of one time in the order in which they were asked for. */
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
