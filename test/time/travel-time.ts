/** A time that stands still until a test moves it, for stores that take the present from a test. */
export class TravelTime {
  #us: number;

  constructor(startMs = 1_700_000_000_000) {
    this.#us = startMs * 1_000;
  }

  get ms(): number {
    return this.#us / 1_000;
  }

  /** ISO text to the microsecond, as statements of `src/storage` take it. */
  readonly iso = (): string => {
    const seconds = new Date(Math.floor(this.#us / 1_000_000) * 1_000).toISOString().slice(0, 19);
    return `${seconds}.${String(this.#us % 1_000_000).padStart(6, '0')}Z`;
  };

  /** Moves on; back, if it is negative. A thousandth of a millisecond is the smallest step. */
  pass(ms: number): void {
    this.#us += Math.round(ms * 1_000);
  }
}
