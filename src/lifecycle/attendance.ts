import { Fault } from '../errors/fault.ts';
import { Rejection } from '../errors/rejections/rejection.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import { Every } from '../time/every.ts';
import type { Logger } from '../time/logger.ts';

/**
 * With a session timeout of 30 s and 240 s without a member, a subscription is DEAD within 5
 * minutes of the last sign of life.
 */
const lookIntervalMs = 15_000;

interface AttendanceDeps {
  /** Runs on while the process is stopped, because a pause of the broker postpones no death. */
  readonly clock: Clock;
  readonly log: Pick<Logger, 'warn'>;
  /** Ends the lives that are due. It costs nothing if none may be. @throws Fault */
  readonly look: () => Promise<void>;
}

/** Looks for subscriptions whose groups have had no member for too long, which are DEAD then. */
export class Attendance implements BackgroundJob {
  readonly #loop: Every;

  constructor({ clock, log, look }: AttendanceDeps) {
    this.#loop = new Every({
      clock,
      delayMs: lookIntervalMs,
      run: look,
      onError: (error) => {
        // Another broker looks now.
        if (error instanceof Rejection || (error instanceof Fault && error.kind === 'FENCED')) return;
        log.warn({ err: error }, 'the look for dead subscriptions failed; the broker will look again');
      },
    });
  }

  start(): void {
    this.#loop.start();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }
}
