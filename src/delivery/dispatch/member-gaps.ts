/**
 * The open gaps of the logs of a member, for the answers of its pulls. No answer proves that the
 * client has it, so a gap comes again in later answers until it is closed.
 */
export class MemberGaps<Log extends { readonly gap: object | null }> {
  /**
   * Whether an answer has named the gap as it is now. The one that was named longest ago comes
   * first. Null without gaps, as nearly all members are.
   */
  #named: Map<Log, boolean> | null = null;

  came(log: Log): void {
    this.#put(log, false);
  }

  went(log: Log): void {
    this.#named?.delete(log);
  }

  /** The logs whose gap is open. */
  *open(): Generator<Log> {
    for (const log of this.#named?.keys() ?? []) {
      if (log.gap === null) this.went(log);
      else yield log;
    }
  }

  /** Whether there is a gap that no answer has named. */
  get hasNew(): boolean {
    return this.#new().next().done === false;
  }

  /** Takes those for the next answer: first the new ones, and then the others by turns. */
  next(max: number): Log[] {
    const logs = new Set<Log>();
    for (const some of [this.#new(), this.open()]) {
      for (const log of some) {
        if (logs.size === max) break;
        logs.add(log);
      }
    }
    for (const log of logs) this.#put(log, true);
    return [...logs];
  }

  /** Puts the log behind the others. */
  #put(log: Log, isNamed: boolean): void {
    this.#named ??= new Map();
    this.#named.delete(log);
    this.#named.set(log, isNamed);
  }

  *#new(): Generator<Log> {
    for (const log of this.open()) if (this.#named?.get(log) === false) yield log;
  }
}
