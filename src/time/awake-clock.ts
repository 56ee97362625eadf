import type { BackgroundJob } from './background-job.ts';
import type { Clock } from './clock.ts';
import { Every } from './every.ts';

/**
 * The pause between two readings of an idle process. A stop of the process counts as one of them.
 */
const lookIntervalMs = 250;
/**
 * A longer time between two readings means a stop: SIGSTOP, a frozen machine, a hung event loop.
 */
const pauseMsMin = 1_000;
/** A timer that is this late first lets the input be handled that arrived meanwhile. */
const lateMsMin = 100;

/**
 * A clock that counts only the time in which this process was awake. Members are judged by it,
 * because they cannot reach a broker that stands still: a stop takes nothing from sessions, poll
 * intervals, rebalance timeouts and leases. Ownership of the database is judged by the base clock,
 * which runs on.
 *
 * Each reading is compared with the one before, and a timer makes regular readings. After a stop
 * the event loop runs due timers before it reads the sockets with the waiting heartbeats. A timer
 * that is due by the base clock but not by this one is therefore set again, and a timer that is
 * late by both clocks first lets the arrived input be handled.
 */
export class AwakeClock implements Clock, BackgroundJob {
  readonly #base: Clock;
  readonly #onPause: (ms: number) => void;
  #lastMs: number;
  #missedMs = 0;
  readonly #looks: Every;

  /** Before `start` it returns the time of `base`. */
  constructor(base: Clock, onPause: (ms: number) => void = () => undefined) {
    this.#base = base;
    this.#onPause = onPause;
    this.#lastMs = base.nowMs();
    this.#looks = new Every({
      clock: base,
      delayMs: lookIntervalMs,
      run: () => {
        this.nowMs();
      },
      // Only `onPause` can throw, and it only writes to the log.
      onError: () => undefined,
    });
  }

  /** Detects stops from now on. */
  start(): void {
    if (this.#looks.isStarted) return;
    this.#lastMs = this.#base.nowMs();
    this.#looks.start();
  }

  /** Timers that were already set still run. */
  stop(): Promise<void> {
    return this.#looks.stop();
  }

  wallMs(): number {
    return this.#base.wallMs();
  }

  nowMs(): number {
    const nowMs = this.#base.nowMs();
    const gapMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    if (gapMs > pauseMsMin && this.#looks.isStarted) {
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
      // Timers are less than a millisecond early by nature.
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
}
