import type { Clock } from './clock.ts';

/** Between two looks at the time of a process that has nothing to do. A pause counts as one of them. */
const lookIntervalMs = 250;
/** Who has not looked for longer has stood still: stopped, on a machine that was frozen, or in an event loop that hung. */
const pauseMsMin = 1_000;
/** A timer that is so late waits for the input that came meanwhile. */
const lateMsMin = 100;

/**
 * Tells only the time in which this process was awake. Others are judged by it: while the broker stands still nobody can reach it, so a
 * pause takes nothing from sessions, poll intervals, rebalance timeouts and leases. Whether this broker still owns the database is judged
 * by the clock below, which runs on.
 *
 * Each reading compares the time with that of the reading before, and a timer sees to it that there are some. On waking, the event loop
 * runs the timers that are due before it reads the sockets in which the heartbeats wait; so a timer that is due by the clock
 * below and not by this one is set again, and one that is late by both lets what has arrived be handled first.
 */
export class AwakeClock implements Clock {
  readonly #base: Clock;
  readonly #onPause: (ms: number) => void;
  #lastMs: number;
  #missedMs = 0;
  #cancelLook: (() => void) | null = null;

  /** Until `start` it tells the time of `base`. */
  constructor(base: Clock, onPause: (ms: number) => void = () => undefined) {
    this.#base = base;
    this.#onPause = onPause;
    this.#lastMs = base.nowMs();
  }

  /** Notices pauses from now on. */
  start(): void {
    if (this.#cancelLook !== null) return;
    this.#lastMs = this.#base.nowMs();
    this.#look();
  }

  /** Idempotent. Timers that were set still run. */
  stop(): void {
    this.#cancelLook?.();
    this.#cancelLook = null;
  }

  wallMs(): number {
    return this.#base.wallMs();
  }

  nowMs(): number {
    const nowMs = this.#base.nowMs();
    const gapMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    if (gapMs > pauseMsMin && this.#cancelLook !== null) {
      this.#missedMs += gapMs - lookIntervalMs;
      this.#onPause(gapMs);
    }
    return nowMs - this.#missedMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const dueMs = this.nowMs() + delayMs;
    let cancelled = false;
    let cancel = (): void => undefined;
    const arm = (ms: number): void => {
      const baseDueMs = this.#base.nowMs() + ms;
      cancel = this.#base.after(ms, () => {
        fire(this.#base.nowMs() - baseDueMs);
      });
    };
    const fire = (lateMs: number): void => {
      if (cancelled) return;
      const leftMs = dueMs - this.nowMs();
      // Less than a millisecond is how timers are.
      if (leftMs >= 1) arm(leftMs);
      else if (lateMs < lateMsMin) run();
      else {
        this.#base.soon(() => {
          fire(0);
        });
      }
    };
    arm(delayMs);
    return () => {
      cancelled = true;
      cancel();
    };
  }

  soon(run: () => void): void {
    this.#base.soon(run);
  }

  #look(): void {
    this.#cancelLook = this.#base.after(lookIntervalMs, () => {
      this.nowMs();
      this.#look();
    });
  }
}
