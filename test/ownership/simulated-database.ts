import assert from 'node:assert/strict';
import { Fault } from '../../src/errors/fault.ts';
import type { LeaseRow, LeaseSight } from '../../src/ownership/store.ts';
import type { FakeClock } from '../support/fake-clock.ts';

export interface SimulatedSession {
  readonly broker: string;
  open: boolean;
  readonly onEnd: () => void;
}

interface WriteInFlight {
  readonly broker: string;
  readonly epoch: number;
  cancel: () => void;
}

/**
 * What ownership needs of a database, in memory: a lock, a lease, fence rows, transactions in
 * flight, restarts.
 */
export class SimulatedDatabase {
  /**
   * Epochs of the writes, in the order of their commits, with the epoch that was raised by then.
   */
  readonly commits: { readonly epoch: number; readonly latestEpoch: number }[] = [];
  /** Called when a frozen owner's lock is taken from it. */
  onEvicted: (broker: string) => void = () => undefined;
  readonly #clock: FakeClock;
  #up = true;
  #lock: SimulatedSession | null = null;
  #lease: { broker: string; epoch: number; renewedAtMs: number; renewals: number } | null = null;
  #fence = new Map<string, number>();
  #sessions = new Set<SimulatedSession>();
  #writes = new Set<WriteInFlight>();
  /** Held by a takeover, as the row lock of the lease is. */
  #takingOver: Promise<void> | null = null;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  get epoch(): number {
    return this.#lease?.epoch ?? 0;
  }

  get owner(): string | null {
    return this.#lease?.broker ?? null;
  }

  goDown(): void {
    this.#up = false;
    for (const session of [...this.#sessions]) this.endSession(session);
    this.#abortWrites(() => true);
  }

  comeUp(): void {
    this.#up = true;
  }

  get lockedBy(): string | null {
    return this.#lock?.broker ?? null;
  }

  /** Ends what a broker has for its lease, as an administrator may. */
  cutSessions(broker: string): void {
    for (const session of [...this.#sessions]) if (session.broker === broker) this.endSession(session);
  }

  connect(broker: string, onEnd: () => void): SimulatedSession {
    if (!this.#up) throw new Fault('DATABASE_UNAVAILABLE', 'the database is down');
    const session = { broker, open: true, onEnd };
    this.#sessions.add(session);
    return session;
  }

  endSession(session: SimulatedSession): void {
    if (!session.open) return;
    session.open = false;
    this.#sessions.delete(session);
    if (this.#lock === session) this.#lock = null;
    session.onEnd();
  }

  tryLock(session: SimulatedSession): boolean {
    this.#lock ??= session;
    return this.#lock === session;
  }

  unlock(session: SimulatedSession): void {
    if (this.#lock === session) this.#lock = null;
  }

  read(session: SimulatedSession): LeaseSight {
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
    return { broker, epoch, ageMs: this.#clock.nowMs() - lease.renewedAtMs, renewal: String(renewals) };
  }

  evict(broker: string, ageMsMin: number): boolean {
    const lease = this.#lease;
    const stale = lease?.broker === broker && this.#clock.nowMs() - lease.renewedAtMs >= ageMsMin;
    if (stale && this.#lock?.broker === broker) {
      this.onEvicted(broker);
      this.endSession(this.#lock);
    }
    return true;
  }

  async takeOver(session: SimulatedSession, seen: LeaseRow | null, patienceMs: number): Promise<number | null> {
    while (this.#takingOver !== null) await this.#takingOver;
    if (!session.open || !this.#isAsSeen(seen)) return null;
    const done = Promise.withResolvers<void>();
    this.#takingOver = done.promise;
    const epoch = (this.#lease?.epoch ?? 0) + 1;
    // New writes of the predecessor wait behind the raised fence row, and then find it gone.
    this.#fence = new Map([[session.broker, epoch]]);
    await this.#writesEnded(patienceMs);
    this.#takingOver = null;
    done.resolve();
    if (!session.open) return null;
    this.#lease = { broker: session.broker, epoch, renewedAtMs: this.#clock.nowMs(), renewals: 0 };
    return epoch;
  }

  #isAsSeen(seen: LeaseRow | null): boolean {
    const now = this.#seenLease();
    return now?.epoch === seen?.epoch && now?.renewal === seen?.renewal;
  }

  renew(session: SimulatedSession, epoch: number): boolean {
    if (this.#lease?.broker !== session.broker || this.#lease.epoch !== epoch) return false;
    this.#lease.renewedAtMs = this.#clock.nowMs();
    this.#lease.renewals += 1;
    return true;
  }

  release(session: SimulatedSession, epoch: number | null): void {
    if (this.#lease?.broker === session.broker && this.#lease.epoch === epoch) {
      this.#lease.renewedAtMs = -Infinity;
      this.#lease.renewals += 1;
    }
    if (this.#lock === session) this.#lock = null;
  }

  /** A transaction that takes its fence row at once, and commits `lastsMs` later. */
  write(broker: string, epoch: number, lastsMs: number): 'begun' | 'fenced' | 'unavailable' {
    if (!this.#up) return 'unavailable';
    if (this.#fence.get(broker) !== epoch) return 'fenced';
    const write: WriteInFlight = { broker, epoch, cancel: () => undefined };
    write.cancel = this.#clock.after(lastsMs, () => {
      this.#writes.delete(write);
      this.commits.push({ epoch, latestEpoch: this.epoch });
    });
    this.#writes.add(write);
    return 'begun';
  }

  async #writesEnded(patienceMs: number): Promise<void> {
    const untilMs = this.#clock.nowMs() + patienceMs;
    const predecessors = [...this.#writes];
    while (predecessors.some((write) => this.#writes.has(write)) && this.#clock.nowMs() < untilMs) {
      await new Promise<void>((resolve) => {
        this.#clock.after(10, resolve);
      });
    }
    this.#abortWrites((write) => predecessors.includes(write));
    assert(!predecessors.some((write) => this.#writes.has(write)));
  }

  #abortWrites(which: (write: WriteInFlight) => boolean): void {
    for (const write of [...this.#writes].filter(which)) {
      write.cancel();
      this.#writes.delete(write);
    }
  }
}
