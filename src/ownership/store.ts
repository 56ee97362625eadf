/** What ownership needs of a database. `src/storage` implements it on PostgreSQL; tests have one in memory. */

/** The one row that says who owns the database. */
export interface LeaseRow {
  readonly broker: string;
  readonly epoch: number;
  /** Since the last renewal, by the database's clock; Infinity once it was given up. */
  readonly ageMs: number;
  /** Names the last renewal: another one after each, and after the lease was given up. */
  readonly renewal: string;
}

export interface LeaseSight {
  readonly lease: LeaseRow | null;
  readonly locked: boolean;
  readonly lockedBy: LockHolder | null;
}

/** Who holds the lock; `broker` is null where the database does not tell. */
export interface LockHolder {
  readonly broker: string | null;
}

/**
 * Every method ends within seconds, with a Fault if the database does not answer: a call that hangs would keep a standby
 * from ever taking over.
 */
export interface LeaseStore {
  /** Takes the session's advisory lock, or finds that this broker holds it already. False: somebody else has it. */
  tryLock(): Promise<boolean>;
  /** Gives the lock back, if this broker holds it. */
  unlock(): Promise<void>;
  /** Calls `listener` whenever the session that held the lock has ended without having been asked to. */
  onUnlocked(listener: () => void): void;
  /**
   * The lease, who holds the lock, and whether that is this broker's session. `lease` is null in a database that was never owned, or
   * never migrated; `lockedBy` is null if the lock is free.
   */
  read(): Promise<LeaseSight>;
  /**
   * Ends the session that holds the lock, if the lease is still that broker's and at least `ageMsMin` old. What that broker
   * is writing is not touched. False if the database does not allow it.
   */
  evict(broker: string, ageMsMin: number): Promise<boolean>;
  /**
   * Makes this broker the owner: raises the epoch and the fence rows, for which it waits until the predecessor's
   * transactions in flight have ended; those that take longer than `patienceMs` are ended by force.
   * @returns the new epoch; null if the lease is not as it was seen any more, because another broker came first or its owner has
   * renewed it or given it up.
   */
  takeOver(seen: LeaseRow | null, patienceMs: number): Promise<number | null>;
  /** False: the lease is another's, or of another epoch. */
  renew(epoch: number): Promise<boolean>;
  /** Gives up the lease, if there is one of that epoch, then the lock, so that a standby takes over at once. */
  release(epoch: number | null): Promise<void>;
}
