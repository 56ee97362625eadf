/**
 * Time and random numbers as the shells see them, as constructor parameters, so that tests can hold
 * the clock still. Only `system.ts` reads the machine's clock. `awake-clock.ts` leaves out the time
 * in which the process was stopped.
 */
export interface Clock {
  /**
   * Milliseconds since the epoch, of this machine. Only for logs and for deadlines in answers;
   * stored times are the database's.
   */
  wallMs(): number;
  /**
   * Milliseconds of a clock that never goes back. Durations and deadlines in memory use this one.
   */
  nowMs(): number;
  /**
   * Calls `run` once, `delayMs` from now, or soon if that has passed. The returned function cancels
   * it.
   */
  after(delayMs: number, run: () => void): () => void;
  /** Calls `run` once, after the input that has already arrived has been handled. */
  soon(run: () => void): void;
}

export interface Random {
  /** A new id that nobody can guess. */
  uuid(): string;
  /** Uniform in [0, 1). */
  fraction(): number;
}
