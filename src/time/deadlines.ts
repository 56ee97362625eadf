import type { Clock } from './clock.ts';

/** A deadline is at most this part of its limit late, and in return reads no clock. */
const rounds = 16;

/**
 * One deadline for many: each must be over within `limitMs`, or `late` is called with it, at most a
 * sixteenth of the limit later. They are in the order of their beginnings, and one timer counts
 * rounds for all of them, because every call begins and ends two deadlines.
 */
export class Deadlines<T> {
  readonly #clock: Clock;
  readonly #roundMs: number;
  readonly #late: (waiting: T) => void;
  readonly #since = new Map<T, number>();
  #round = 0;
  #cancelTimer: (() => void) | null = null;

  constructor(clock: Clock, limitMs: number, late: (waiting: T) => void) {
    this.#clock = clock;
    this.#roundMs = limitMs / rounds;
    this.#late = late;
  }

  begin(waiting: T): void {
    this.#since.delete(waiting);
    this.#since.set(waiting, this.#round);
    if (this.#cancelTimer === null) this.#arm();
  }

  /** As `begin`, but one that has begun goes on. */
  beginOnce(waiting: T): void {
    if (!this.#since.has(waiting)) this.begin(waiting);
  }

  over(waiting: T): void {
    this.#since.delete(waiting);
  }

  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#since.clear();
  }

  #arm(): void {
    this.#cancelTimer = this.#clock.after(this.#roundMs, () => {
      this.#cancelTimer = null;
      this.#round += 1;
      this.#look();
      if (this.#since.size > 0 && this.#cancelTimer === null) this.#arm();
    });
  }

  /** The round in which a deadline begins is not a whole one. */
  #look(): void {
    for (const [waiting, since] of this.#since) {
      if (this.#round - since <= rounds) return;
      this.#since.delete(waiting);
      this.#late(waiting);
    }
  }
}
