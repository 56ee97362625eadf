/**
 * The port of ownership to the database. `src/storage` implements it on PostgreSQL, and tests in
 * memory.
 */

/** The one row that names the owner. */
export interface LeaseRow {
  readonly broker: string;
  readonly epoch: number;
  /** Time since the last renewal, by the database's clock; Infinity once the lease was released. */
  readonly ageMs: number;
  /** Identifies the last renewal; changes with each renewal and with the release. */
  readonly renewal: string;
}

export interface LeaseSight {
  readonly lease: LeaseRow | null;
  readonly locked: boolean;
  readonly lockedBy: LockHolder | null;
}

/** The holder of the lock; `broker` is null if the database does not name it. */
export interface LockHolder {
  readonly broker: string | null;
}

/**
 * Every method ends within seconds, with a Fault if the database does not answer, because a call
 * that hangs would keep a standby from ever taking over.
 */
export interface LeaseStore {
  /**
   * Takes the session's advisory lock, or finds that this broker already holds it. False: another
   * broker holds it.
   */
  tryLock(): Promise<boolean>;
  /** Gives the lock back, if this broker holds it. */
  unlock(): Promise<void>;
  /** Calls `listener` whenever the session that held the lock has ended unexpectedly. */
  onUnlocked(listener: () => void): void;
  /**
   * The lease, the holder of the lock, and whether that is this broker's session. `lease` is null
   * in a database that was never owned or never migrated; `lockedBy` is null if the lock is free.
   */
  read(): Promise<LeaseSight>;
  /**
   * Ends the session that holds the lock, if the lease is still that broker's and at least
   * `ageMsMin` old. That broker's writes go on. False if the database does not allow it.
   */
  evict(broker: string, ageMsMin: number): Promise<boolean>;
  /**
   * Makes this broker the owner: raises the epoch and the fence rows, after the predecessor's
   * transactions in flight have ended. It ends those that take longer than `patienceMs` by force.
   * @returns the new epoch; null if the lease has changed, because another broker came first, or
   * its owner has renewed or released it.
   */
  takeOver(seen: LeaseRow | null, patienceMs: number): Promise<number | null>;
  /** False: the lease is another's, or of another epoch. */
  renew(epoch: number): Promise<boolean>;
  /**
   * Releases the lease, if it has that epoch, then the lock, so that a standby takes over at once.
   */
  release(epoch: number | null): Promise<void>;
}
