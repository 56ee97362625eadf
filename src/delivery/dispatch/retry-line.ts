import type { Clock } from '../../time/clock.ts';

/** Readers that wait for memory look again after this time. */
export const memoryRetryMs = 50;

/** A reader that has something to send. */
export interface WaitingReader {
  wake(): unknown;
}

/** Streams that wait for memory. Many things may free it, so they are woken after a while. */
export class RetryLine {
  readonly #clock: Clock;
  readonly #waiting = new Set<WaitingReader>();
  #cancel: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  wait(reader: WaitingReader): void {
    if (this.#waiting.size === 0) this.#cancel = this.#clock.after(memoryRetryMs, this.#wakeAll);
    this.#waiting.add(reader);
  }

  /** Wakes no reader any more. */
  stop(): void {
    this.#cancel();
  }

  readonly #wakeAll = (): void => {
    const woken = [...this.#waiting];
    this.#waiting.clear();
    for (const reader of woken) reader.wake();
  };
}
