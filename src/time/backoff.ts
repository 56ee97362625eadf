import type { Clock, Random } from './clock.ts';
import { pause } from './pause.ts';

const firstMs = 100;
const longestMs = 2_000;

/**
 * Pauses between retries: doubled each time, up to a limit, and shortened by up to half at random.
 */
export class Backoff {
  readonly #clock: Clock;
  readonly #random: Random;
  #nextMs = firstMs;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** After a success: the next pause is a short one again. */
  reset(): void {
    this.#nextMs = firstMs;
  }

  /** The signal of a stop ends the pause. */
  pause(signal: AbortSignal): Promise<void> {
    const ms = this.#nextMs * (0.5 + this.#random.fraction() / 2);
    this.#nextMs = Math.min(longestMs, this.#nextMs * 2);
    return pause(this.#clock, ms, signal);
  }
}
