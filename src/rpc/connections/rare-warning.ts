import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';

const reportMs = 60_000;

/** A warning about what clients do, at most once a minute: they may not fill the log. */
export class RareWarning {
  readonly #clock: Clock;
  readonly #log: Pick<Logger, 'warn'>;
  #count = 0;
  #reportedMs = -Infinity;

  constructor(clock: Clock, log: Pick<Logger, 'warn'>) {
    this.#clock = clock;
    this.#log = log;
  }

  /** `fieldsOf` gets how often it has happened since the last line. */
  happened(fieldsOf: (count: number) => object, text: string): void {
    this.#count += 1;
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#reportedMs < reportMs) return;
    this.#reportedMs = nowMs;
    this.#log.warn(fieldsOf(this.#count), text);
    this.#count = 0;
  }
}
