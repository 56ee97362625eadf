import type { Clock } from '../../src/time/clock.ts';

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/**
 * A clock that stands still until a test moves it. Timers run in the order of their times, those of
 * one time as they were set.
 */
export class FakeClock implements Clock {
  #nowMs: number;
  #order = 0;
  #timers: Timer[] = [];
  #soon: (() => void)[] = [];

  constructor(startMs = 1_000_000) {
    this.#nowMs = startMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  soon(run: () => void): void {
    this.#soon.push(run);
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.length;
  }

  /** When the next timer is due; null if none waits. */
  get nextTimerMs(): number | null {
    return this.#next()?.atMs ?? null;
  }

  /**
   * Lets everything happen that can happen without time passing: promises and what was put off with
   * `soon`.
   */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3;) {
      // One turn of the real event loop lets every settled promise chain run to its end.
      await new Promise((resume) => setImmediate(resume));
      const due = this.#soon;
      this.#soon = [];
      for (const run of due) run();
      quiet = due.length === 0 ? quiet + 1 : 0;
    }
  }

  /**
   * The process stands still for so long, and its clock goes on: what is due by then is late.
   * `advance` runs it.
   */
  jump(ms: number): void {
    this.#nowMs += ms;
  }

  /** Moves on by so much, running timers as they fall due and settling after each. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await this.settle();
    for (let next = this.#next(); next !== undefined && next.atMs <= untilMs; next = this.#next()) {
      this.#timers = this.#timers.filter((one) => one !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
      await this.settle();
    }
    this.#nowMs = untilMs;
  }

  #next(): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (next === undefined || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.order < next.order)) {
        next = timer;
      }
    }
    return next;
  }
}
