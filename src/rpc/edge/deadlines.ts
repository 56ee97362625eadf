import type { Clock } from '../../time/clock.ts';

/**
 * One deadline for many: each must be over within `limitMs`, or `late` is called with it. They are
 * in the order of their beginnings, so that one timer is enough.
 */
export class Deadlines<T> {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #late: (waiting: T) => void;
  readonly #sinceMs = new Map<T, number>();
  #cancelTimer: (() => void) | null = null;

  constructor(clock: Clock, limitMs: number, late: (waiting: T) => void) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#late = late;
  }

  begin(waiting: T): void {
    this.#sinceMs.delete(waiting);
    this.#sinceMs.set(waiting, this.#clock.nowMs());
    if (this.#cancelTimer === null) this.#arm(this.#limitMs);
  }

  /** As `begin`, but one that has begun goes on. */
  beginOnce(waiting: T): void {
    if (!this.#sinceMs.has(waiting)) this.begin(waiting);
  }

  over(waiting: T): void {
    this.#sinceMs.delete(waiting);
  }

  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#sinceMs.clear();
  }

  #arm(delayMs: number): void {
    this.#cancelTimer = this.#clock.after(delayMs, () => {
      this.#cancelTimer = null;
      this.#look();
    });
  }

  #look(): void {
    const nowMs = this.#clock.nowMs();
    for (const [waiting, sinceMs] of [...this.#sinceMs]) {
      const restMs = sinceMs + this.#limitMs - nowMs;
      if (restMs > 0) {
        this.#arm(restMs);
        return;
      }
      this.#sinceMs.delete(waiting);
      this.#late(waiting);
    }
    if (this.#sinceMs.size > 0 && this.#cancelTimer === null) this.#arm(this.#limitMs);
  }
}
