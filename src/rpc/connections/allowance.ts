import type { Clock } from '../../time/clock.ts';

interface AllowanceRate {
  /** So many at once. */
  readonly burst: number;
  readonly perSecond: number;
}

/** How often something may happen: a number at once, and then a number a second. */
export class Allowance {
  readonly #clock: Pick<Clock, 'nowMs'>;
  readonly #rate: AllowanceRate;
  #left: number;
  #atMs: number;

  constructor(clock: Pick<Clock, 'nowMs'>, rate: AllowanceRate) {
    this.#clock = clock;
    this.#rate = rate;
    this.#left = rate.burst;
    this.#atMs = clock.nowMs();
  }

  /** How much of the burst is used at the moment. */
  get used(): number {
    this.#refill();
    return this.#rate.burst - this.#left;
  }

  /** @returns false if nothing was left. */
  spend(): boolean {
    this.#refill();
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }

  #refill(): void {
    const nowMs = this.#clock.nowMs();
    const { burst, perSecond } = this.#rate;
    this.#left = Math.min(burst, this.#left + ((nowMs - this.#atMs) / 1_000) * perSecond);
    this.#atMs = nowMs;
  }
}
