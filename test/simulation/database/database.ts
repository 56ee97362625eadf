import { Fault } from '../../../src/errors/fault.ts';
import type { LeaseRow, LeaseSight } from '../../../src/ownership/store.ts';
import type { SubscriptionState } from '../../../src/subscription/life.ts';
import { MemoryGroups } from '../../support/memory-group-store.ts';
import { logKey } from '../../support/retention/stored-segments.ts';
import { LogTables } from './log-tables.ts';
import type { World } from '../world.ts';

/** A session of a broker, as the database sees it. */
export interface Session {
  readonly broker: string;
  open: boolean;
  /** Called once, when the session ends for any reason. */
  readonly onEnd: () => void;
}

export interface TransactionRequest<T> {
  readonly session: Session;
  /** The epoch whose fence row the transaction locks first; null if it only reads. */
  readonly epoch: number | null;
  /** The epoch of the broker. It differs from `epoch` only in a sabotaged broker. */
  readonly writer?: number;
  /** The rows that the transaction locks after the fence, all at once. */
  readonly locks: readonly string[];
  /** The work of the transaction, done at the instant of its commit. */
  readonly work: () => T | Promise<T>;
}

interface Transaction {
  readonly request: TransactionRequest<unknown>;
  holdsLocks: boolean;
  readonly begin: PromiseWithResolvers<void>;
  readonly aborted: PromiseWithResolvers<never>;
}

interface LeaseState {
  readonly broker: string;
  readonly epoch: number;
  renewedAtMs: number;
  /** Rises with every renewal, and with the release. */
  renewals: number;
}

/** Gets the events that the ledger checks. */
export interface DatabaseObserver {
  /** Called when a fenced transaction of this epoch commits. */
  writing(epoch: number): void;
  takenOver(epoch: number, broker: string): void;
}

/**
 * The database: lock, lease, fence, transactions with their locks, and their writes. It may go
 * down, end sessions, and be slow. Committed writes stay.
 */
export class Database {
  readonly log: LogTables;
  readonly groups = new MemoryGroups();
  observer: DatabaseObserver = { writing: () => undefined, takenOver: () => undefined };
  /** Whether commits are slow. */
  slow = false;
  /** The probability that a call breaks its connection: before, during or after its work. */
  breakRate = 0;
  readonly #world: World;
  #up = true;
  #lock: Session | null = null;
  #lease: LeaseState | null = null;
  /** The epoch in the fence rows. */
  #fenceEpoch = 0;
  /** The time of the last renewal of each epoch. */
  readonly #renewedAtMs = new Map<number, number>();
  readonly #sessions = new Set<Session>();
  #running = new Set<Transaction>();
  /** Transactions that wait for locks, in order. */
  #waiting: Transaction[] = [];
  readonly #locked = new Set<string>();
  #takingOver: Promise<void> | null = null;

  constructor(world: World) {
    this.#world = world;
    this.log = new LogTables(world);
    this.groups.nowMs = () => world.nowMs;
    this.groups.ownerEpoch = () => this.epoch;
    this.groups.hasTopic = (topicId) => this.log.topics.has(topicId);
    this.log.liveSubscriptions = (topicId) =>
      this.groups.subscriptions.live().filter((row) => row.topicId === topicId && row.state !== 'DEAD').length;
    this.groups.logStart = (topicId, partition, lane) =>
      this.log.topics.get(topicId)?.segments.startOf(logKey(partition, lane)) ?? 0;
  }

  /** The subscriptions of a topic that are not cancelled. */
  subscriptionsOf(
    topicId: number,
  ): { readonly id: number; readonly state: SubscriptionState; readonly diedAtMs: number }[] {
    return this.groups.subscriptions
      .live()
      .filter((row) => row.topicId === topicId)
      .map(({ id, state, stateChangedAtMs }) => ({ id, state, diedAtMs: stateChangedAtMs }));
  }

  get isUp(): boolean {
    return this.#up;
  }

  get epoch(): number {
    return this.#lease?.epoch ?? 0;
  }

  get fenceEpoch(): number {
    return this.#fenceEpoch;
  }

  /** The age of the last renewal in this epoch, even if there is a later epoch. */
  sinceRenewalMs(epoch: number): number {
    return this.#world.nowMs - (this.#renewedAtMs.get(epoch) ?? -Infinity);
  }

  /** The age of the lease's last renewal; Infinity for a released lease. */
  get leaseAgeMs(): number {
    return this.#lease === null ? Infinity : this.#world.nowMs - this.#lease.renewedAtMs;
  }

  goDown(): void {
    this.#up = false;
    for (const session of [...this.#sessions]) this.end(session, true);
  }

  comeUp(): void {
    this.#up = true;
  }

  connect(broker: string, onEnd: () => void): Session {
    if (!this.#up) throw new Fault('DATABASE_UNAVAILABLE', 'the database is down');
    const session = { broker, open: true, onEnd };
    this.#sessions.add(session);
    return session;
  }

  /**
   * Ends a session. Its transaction is rolled back, or goes on, as in a backend that does not
   * notice the end.
   */
  end(session: Session, rollBack: boolean): void {
    if (!session.open) return;
    session.open = false;
    this.#sessions.delete(session);
    if (this.#lock === session) this.#lock = null;
    if (rollBack) {
      for (const one of [...this.#running])
        if (one.request.session === session) this.#abort(one, 'the session was ended');
    }
    session.onEnd();
  }

  async transaction<T>(request: TransactionRequest<T>): Promise<T> {
    const { session, epoch, locks } = request;
    while (epoch !== null && this.#takingOver !== null) await this.#takingOver;
    if (!session.open) throw new Fault('OUTCOME_UNKNOWN', 'the session was ended');
    // The fence row is locked for share until the end, so a takeover waits for the transaction.
    if (epoch !== null && epoch !== this.#fenceEpoch) {
      this.#world.count('a write is fenced');
      throw new Fault('FENCED', 'another broker has taken over');
    }
    const transaction: Transaction = {
      request,
      holdsLocks: false,
      begin: Promise.withResolvers(),
      aborted: Promise.withResolvers(),
    };
    transaction.aborted.promise.catch(() => undefined);
    this.#running.add(transaction);
    this.#waiting.push(transaction);
    this.#beginWaiting();
    try {
      await Promise.race([transaction.aborted.promise, transaction.begin.promise]);
      await Promise.race([transaction.aborted.promise, this.#world.pause(this.#commitMs())]);
      if (epoch !== null) this.observer.writing(request.writer ?? epoch);
      if (epoch !== null && !session.open) this.#world.count('a write goes on after its connection was cut');
      return await request.work();
    } finally {
      this.#running.delete(transaction);
      if (transaction.holdsLocks) for (const lock of locks) this.#locked.delete(lock);
      this.#beginWaiting();
    }
  }

  /**
   * Ends the transactions of a broker that go on after their connection was cut. Afterwards each of
   * them has committed, or never will.
   */
  async endLost(broker: string, epoch: number): Promise<void> {
    const lost = [...this.#running].filter(({ request: { session, epoch: of } }) => {
      return !session.open && session.broker === broker && of === epoch;
    });
    for (const one of lost) if (this.#world.chance(0.5)) this.#abort(one, 'the session was ended');
    while (lost.some((one) => this.#running.has(one))) await this.#world.pause(1);
  }

  tryLock(session: Session): boolean {
    this.#lock ??= session;
    return this.#lock === session;
  }

  unlock(session: Session): void {
    if (this.#lock === session) this.#lock = null;
  }

  read(session: Session): LeaseSight {
    return {
      lease: this.#seenLease(),
      locked: this.#lock === session,
      lockedBy: this.#lock && { broker: this.#lock.broker },
    };
  }

  #seenLease(): LeaseRow | null {
    const lease = this.#lease;
    if (lease === null) return null;
    const { broker, epoch, renewals } = lease;
    return { broker, epoch, ageMs: this.leaseAgeMs, renewal: String(renewals) };
  }

  evict(broker: string, ageMsMin: number): boolean {
    const isOld = this.#lease?.broker === broker && this.leaseAgeMs >= ageMsMin;
    if (isOld && this.#lock?.broker === broker) {
      this.#world.count('a frozen owner is evicted');
      this.end(this.#lock, false);
    }
    return true;
  }

  async takeOver(session: Session, seen: LeaseRow | null, patienceMs: number): Promise<number | null> {
    while (this.#takingOver !== null) await this.#takingOver;
    if (!session.open || !this.#isAsSeen(seen)) return null;
    const done = Promise.withResolvers<void>();
    this.#takingOver = done.promise;
    await this.#writesEnded(patienceMs);
    const epoch = this.epoch + 1;
    // A session that ended during the takeover has rolled it back.
    if (session.open) {
      this.#fenceEpoch = epoch;
      const before = this.#lease;
      // A release has written until when that owner lived.
      if (before !== null && before.renewedAtMs !== -Infinity) {
        this.groups.subscriptions.endedEpochs.set(before.epoch, before.renewedAtMs);
      }
      this.#lease = { broker: session.broker, epoch, renewedAtMs: this.#world.nowMs, renewals: 0 };
      this.#renewedAtMs.set(epoch, this.#world.nowMs);
      this.observer.takenOver(epoch, session.broker);
    }
    this.#takingOver = null;
    done.resolve();
    return session.open ? epoch : null;
  }

  #isAsSeen(seen: LeaseRow | null): boolean {
    const now = this.#seenLease();
    return now?.epoch === seen?.epoch && now?.renewal === seen?.renewal;
  }

  renew(session: Session, epoch: number): boolean {
    if (this.#lease?.broker !== session.broker || this.#lease.epoch !== epoch) return false;
    this.#lease.renewedAtMs = this.#world.nowMs;
    this.#lease.renewals += 1;
    this.#renewedAtMs.set(epoch, this.#world.nowMs);
    return true;
  }

  release(session: Session, epoch: number | null): void {
    if (this.#lease?.broker === session.broker && this.#lease.epoch === epoch) {
      this.#lease.renewedAtMs = -Infinity;
      this.groups.subscriptions.endedEpochs.set(epoch, this.#world.nowMs);
      this.#lease.renewals += 1;
    }
    if (this.#lock === session) this.#lock = null;
  }

  #commitMs(): number {
    if (this.slow) return this.#world.between(50, 800);
    return this.#world.chance(0.005) ? this.#world.between(1_000, 4_000) : this.#world.between(0.2, 2);
  }

  #abort(transaction: Transaction, reason: string): void {
    this.#waiting = this.#waiting.filter((one) => one !== transaction);
    transaction.aborted.reject(new Fault('OUTCOME_UNKNOWN', reason));
  }

  /**
   * Begins the transactions that can have their locks. Locks are granted in order, as in
   * PostgreSQL.
   */
  #beginWaiting(): void {
    const wanted = new Set(this.#locked);
    this.#waiting = this.#waiting.filter((one) => {
      const { locks } = one.request;
      const free = locks.every((lock) => !wanted.has(lock));
      for (const lock of locks) wanted.add(lock);
      if (!free) return true;
      for (const lock of locks) this.#locked.add(lock);
      one.holdsLocks = true;
      one.begin.resolve();
      return false;
    });
  }

  async #writesEnded(patienceMs: number): Promise<void> {
    const untilMs = this.#world.nowMs + patienceMs;
    const before = [...this.#running].filter(({ request }) => request.epoch !== null);
    const left = (): Transaction[] => before.filter((one) => this.#running.has(one));
    while (left().length > 0 && this.#world.nowMs < untilMs) await this.#world.pause(5);
    for (const one of left()) {
      this.end(one.request.session, true);
      this.#world.count('a successor loses its patience');
      this.#abort(one, 'the successor has lost its patience');
    }
    while (left().length > 0) await this.#world.pause(1);
  }
}
