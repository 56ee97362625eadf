import type { Clock } from './clock.ts';

/**
 * Small pieces of work of many clients. Each turn of the event loop does one piece, in the order in
 * which they came. Otherwise the clients of one moment keep the event loop busy together.
 */
export class Turns {
  readonly #clock: Pick<Clock, 'soon'>;
  readonly #waiting: (() => void)[] = [];

  constructor(clock: Pick<Clock, 'soon'>) {
    this.#clock = clock;
  }

  /** `run` does not throw. */
  take(run: () => void): void {
    if (this.#waiting.push(run) === 1) this.#soon();
  }

  /** Resolves in the turn. */
  taken(): Promise<void> {
    return new Promise((resolve) => {
      this.take(resolve);
    });
  }

  #soon(): void {
    this.#clock.soon(() => {
      this.#waiting[0]?.();
      this.#waiting.shift();
      if (this.#waiting.length > 0) this.#soon();
    });
  }
}
