import type { AckRing } from '../../commit/ack-ring.ts';
import type { AckLogStore } from '../../commit/store.ts';
import type { CursorChange } from '../../consumption/offsets/cursor-key.ts';
import { Fault } from '../../errors/fault.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import type { Clock } from '../../time/clock.ts';
import type { Feed } from '../dispatch/feed.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import { Folds } from './folds.ts';
import type { FoundInAckLog, GroupStore } from '../ports/store.ts';
import type { CursorDelta } from '../../consumption/partitioned/cursor.ts';

/**
 * Makes acks durable, in rounds: one appended row for all cursors of all groups that moved since the last round. An
 * UPDATE of each cursor would cost a row version and fall to a hundredth of its speed behind a long transaction
 * elsewhere in the database; an appended row does not.
 *
 * A round starts at once when none ran lately, and else so long after the start of the last one that a busy broker
 * gathers many acks in each: 5 ms, more with many cursors that move again and again, so that the rounds' WAL stays small beside the
 * appends'. A cursor that has not moved for longer than a round ever waits costs the same however long it waits, and so counts for nothing.
 *
 * One round at a time, so that whoever is answered has its own round on disk and all before it: "acked already" may rest on an
 * earlier one. The rows would not mind another order, since each says by itself how far a cursor is (src/consumption/partitioned/SPEC.md, invariant 10); but the
 * answers would, and there is little to gain: a round of a thousand cursors takes the database 1.5 ms, and the next one gathers meanwhile.
 */
const roundIntervalMs = 5;
const roundIntervalMsMax = 50;
const roundMsPerRepeatedCursor = 0.05;
const retryMs = 250;

/** What a round says of a cursor. */
interface Delta {
  readonly log: Feed;
  readonly delta: CursorDelta;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface AckRoundsDeps {
  readonly store: GroupStore;
  readonly commits: AckLogStore;
  readonly ring: AckRing;
  readonly clock: Clock;
  readonly onFenced: () => void;
  readonly onFoldFailed: (error: unknown) => void;
}

export class AckRounds implements BackgroundJob {
  readonly #d: AckRoundsDeps;
  #dirty = new Set<Feed>();
  #waiters: Waiter[] = [];
  /** Deltas of a round that failed: they were taken from their cursors and still have to be written. */
  #owed: Delta[] = [];
  /** The next round is written even if there is nothing to write. */
  #proofWanted = false;
  #running = false;
  /** The round that began last. */
  #round: Promise<void> = Promise.resolve();
  /** Cancels the round that is scheduled. */
  #cancel: (() => void) | null = null;
  #nextStartMs = -Infinity;
  #stopped = false;
  readonly #folds: Folds;

  constructor(deps: AckRoundsDeps) {
    this.#d = deps;
    this.#folds = new Folds({ store: deps.store, ring: deps.ring, clock: deps.clock, onFailed: deps.onFoldFailed });
  }

  /** `found`: what the broker before has left in the ack log. */
  start(found?: FoundInAckLog): void {
    this.#stopped = false;
    this.#folds.start(found);
  }

  /** The cursor has moved. */
  mark(log: Feed): void {
    this.#dirty.add(log);
    this.#schedule();
  }

  /**
   * A settlement of the cursor is durable and in memory: the next fold writes it. The next round says how far the cursor
   * is by it, together with what was acked before.
   */
  settled(log: Feed): void {
    this.#folds.changed(log);
    this.#folds.appended(1);
    this.mark(log);
  }

  /** The subscription has ended: its cursors are not written any more. */
  forget(log: Feed): void {
    this.#dirty.delete(log);
    this.#folds.forget(log);
    this.#owed = this.#owed.filter((one) => one.log.key.subscriptionId !== log.key.subscriptionId);
  }

  /** Resolves when everything marked so far is durable; rejects with the fault of the round that should have done it. */
  durable(): Promise<void> {
    if (!this.#running && this.#dirty.size === 0 && this.#owed.length === 0) return Promise.resolve();
    if (this.#stopped) return Promise.reject(notOwner());
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#schedule();
    });
  }

  /**
   * Resolves like `durable`, and after a write that was begun from now on: so this broker still owns what it speaks of. A
   * refusal needs no write by itself, and a broker that does not know yet that it was replaced would refuse the ack of what its
   * successor has delivered; the member believes that, and the record stays in flight for ever.
   */
  proven(): Promise<void> {
    if (this.#stopped) return Promise.reject(notOwner());
    this.#proofWanted = true;
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#schedule();
    });
  }

  /** Writes what is left, folds until the deadline, and stops. @throws Fault */
  async drain(untilMs: number): Promise<void> {
    const folding = this.#folds.stop(untilMs);
    try {
      await this.durable();
    } finally {
      this.#stopped = true;
    }
    await folding;
    await this.#folds.finish();
  }

  /** Another broker owns the cursors now: nothing is written any more, and the acks that wait for a round fail. */
  async stop(): Promise<void> {
    this.#end();
    const folding = this.#folds.stop();
    await this.#round;
    await folding;
  }

  #end(): void {
    this.#stopped = true;
    this.#cancel?.();
    this.#cancel = null;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(notOwner());
  }

  #schedule(): void {
    if (this.#running || this.#cancel !== null || this.#stopped) return;
    const begin = (): void => {
      this.#cancel = null;
      this.#round = this.#run();
    };
    const waitMs = this.#nextStartMs - this.#d.clock.nowMs();
    if (waitMs > 0) this.#cancel = this.#d.clock.after(waitMs, begin);
    else this.#soon(begin);
  }

  #soon(begin: () => void): void {
    let cancelled = false;
    this.#cancel = () => {
      cancelled = true;
    };
    this.#d.clock.soon(() => {
      if (!cancelled) begin();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    const startedMs = this.#d.clock.nowMs();
    const intervalMs = this.#intervalMs(startedMs);
    const waiters = this.#waiters;
    this.#waiters = [];
    const deltas = this.#take();
    const proof = this.#proofWanted;
    this.#proofWanted = false;
    try {
      if (deltas.length > 0 || proof) await this.#append(deltas);
      for (const { log, delta } of deltas) log.cursor.written(delta);
      this.#nextStartMs = startedMs + intervalMs;
      for (const waiter of waiters) waiter.resolve();
    } catch (error) {
      this.#failed(deltas, waiters, error);
    }
    this.#running = false;
    if (this.#dirty.size > 0 || this.#waiters.length > 0 || this.#owed.length > 0) this.#schedule();
  }

  async #append(deltas: readonly Delta[]): Promise<void> {
    this.#folds.appended(deltas.length);
    await this.#d.commits.appendAcks({ table: this.#d.ring.current, deltas: deltas.map(told), receipts: [] });
  }

  /** From the start of the round at hand to that of the next. */
  #intervalMs(startedMs: number): number {
    let repeated = 0;
    for (const log of this.#dirty) {
      if (log.roundBegins(startedMs) < roundIntervalMsMax) repeated++;
    }
    return Math.min(roundIntervalMsMax, roundIntervalMs + repeated * roundMsPerRepeatedCursor);
  }

  #take(): Delta[] {
    const deltas = this.#owed;
    this.#owed = [];
    for (const log of this.#dirty) {
      const delta = log.cursor.takeDelta();
      if (delta === null) continue;
      deltas.push({ log, delta });
      this.#folds.changed(log);
    }
    this.#dirty.clear();
    return deltas;
  }

  /** The acks stand in memory and are written by a later round: deltas may be written twice. Nobody is told OK meanwhile. */
  #failed(deltas: readonly Delta[], waiters: readonly Waiter[], error: unknown): void {
    this.#owed = [...deltas];
    this.#nextStartMs = this.#d.clock.nowMs() + retryMs;
    const fault = error instanceof Error ? error : new Error(String(error));
    for (const waiter of waiters) waiter.reject(fault);
    if (error instanceof Fault && error.kind === 'FENCED') {
      this.#end();
      this.#d.onFenced();
    } else if (!(error instanceof Fault)) {
      this.#end();
      throw error;
    }
  }
}

function told({ log, delta }: Delta): CursorChange {
  return { key: log.key, delta };
}
