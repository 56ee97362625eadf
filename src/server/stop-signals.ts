/** The signals that end a broker. SIGHUP comes when its terminal is closed. */
export const stopSignals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
type StopSignal = (typeof stopSignals)[number];

/** The effect of a signal: drain, nothing new, or end at once without waiting for the drain. */
type StopAction = 'drain' | 'nothing' | 'exit';

/**
 * Under `npm start` one Ctrl-C arrives twice, because the terminal signals the whole process group
 * and npm passes its own signal on. Repeats within this time are one request. A person who presses
 * it again takes longer.
 */
const sameRequestMs = 500;

/**
 * Decides the effect of each signal. Pure; the time is an input.
 *
 * 1. The first signal drains.
 * 2. The same signal within `sameRequestMs` of the first has no new effect. Nor has another signal
 *    so soon after SIGHUP, because the end of a terminal may send both.
 * 3. SIGHUP never hastens the end, because no person waits at a closed terminal.
 * 4. Every other signal ends the process at once.
 */
export class StopSignals {
  #first: { readonly signal: StopSignal; readonly atMs: number } | null = null;

  heard(signal: StopSignal, nowMs: number): StopAction {
    if (this.#first === null) {
      this.#first = { signal, atMs: nowMs };
      return 'drain';
    }
    const { signal: first, atMs } = this.#first;
    if (signal === 'SIGHUP') return 'nothing';
    const soon = nowMs - atMs < sameRequestMs;
    return soon && (signal === first || first === 'SIGHUP') ? 'nothing' : 'exit';
  }
}
