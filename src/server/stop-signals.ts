/** The signals that end a broker. SIGHUP comes when its terminal is closed. */
export const stopSignals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
export type StopSignal = (typeof stopSignals)[number];

/**
 * What a signal asks for: to drain, nothing new, or to end at once without waiting for the drain.
 */
export type StopWish = 'drain' | 'nothing' | 'exit';

/**
 * Under `npm start` one Ctrl-C arrives twice: the terminal signals the whole process group, and npm
 * passes its own signal on. Repeats of a signal within this time are one wish. A person needs
 * longer to become impatient.
 */
const sameWishMs = 500;

/**
 * Tells the wish behind each signal; pure, with the time as an input.
 *
 * 1. The first signal drains.
 * 2. The same signal within `sameWishMs` of the first asks for nothing new, nor does another one so
 *    soon after SIGHUP: the end of a terminal may send both.
 * 3. SIGHUP never hastens, because nobody is there who waits.
 * 4. Every other signal ends the process at once.
 */
export class StopSignals {
  #first: { readonly signal: StopSignal; readonly atMs: number } | null = null;

  heard(signal: StopSignal, nowMs: number): StopWish {
    if (this.#first === null) {
      this.#first = { signal, atMs: nowMs };
      return 'drain';
    }
    const { signal: first, atMs } = this.#first;
    if (signal === 'SIGHUP') return 'nothing';
    const soon = nowMs - atMs < sameWishMs;
    return soon && (signal === first || first === 'SIGHUP') ? 'nothing' : 'exit';
  }
}
