/**
 * Time and chance as the shells see them. They are constructor parameters everywhere, so that a test or the simulation
 * can hold the clock still; `system.ts` is the only place that reads the machine's, and `awake-clock.ts` leaves out of it
 * what the process has slept through.
 */
export interface Clock {
  /** Milliseconds since the epoch, of this machine. Only for logs and for deadlines that clients are told; stored times are the database's. */
  wallMs(): number;
  /** Milliseconds of a clock that never goes back. Durations and deadlines in memory use this one. */
  nowMs(): number;
  /** Calls `run` once, `delayMs` from now. The returned function cancels it. */
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
