import { Fault } from '../errors/fault.ts';
import type { Clock } from '../time/clock.ts';
import type { ConsumedLog } from './consumed-log.ts';
import { notOwner } from './not-owner.ts';
import type { AckRound, GroupStore, StoredCursor } from './store.ts';
import type { CursorDelta } from '../cursor/cursor.ts';

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
 * earlier one. The rows would not mind another order, since each says by itself how far a cursor is (src/cursor/SPEC.md, invariant 10); but the
 * answers would, and there is little to gain: a round of a thousand cursors takes the database 1.5 ms, and the next one gathers meanwhile.
 */
const roundIntervalMs = 5;
const roundIntervalMsMax = 50;
const roundMsPerRepeatedCursor = 0.05;
const foldIntervalMs = 5_000;
const retryMs = 250;

/** What a round says of a cursor. */
interface Delta {
  readonly log: ConsumedLog;
  readonly delta: CursorDelta;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface AckRoundsDeps {
  readonly store: GroupStore;
  readonly clock: Clock;
  readonly onFenced: () => void;
  readonly onFoldFailed: (error: unknown) => void;
}

export class AckRounds {
  readonly #d: AckRoundsDeps;
  #dirty = new Set<ConsumedLog>();
  #waiters: Waiter[] = [];
  /** Deltas of a round that failed: they were taken from their cursors and still have to be written. */
  #owed: Delta[] = [];
  #unfolded = new Set<ConsumedLog>();
  /** The next round is written even if there is nothing to write. */
  #proofWanted = false;
  #running = false;
  #scheduled = false;
  #nextStartMs = -Infinity;
  #cancelFold: (() => void) | null = null;
  #folding: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(deps: AckRoundsDeps) {
    this.#d = deps;
  }

  start(): void {
    this.#armFold();
  }

  /** The cursor has moved. */
  mark(log: ConsumedLog): void {
    this.#dirty.add(log);
    this.#schedule();
  }

  /** The subscription has ended: its cursors are not written any more. */
  forget(log: ConsumedLog): void {
    this.#dirty.delete(log);
    this.#unfolded.delete(log);
    this.#owed = this.#owed.filter((one) => one.log.key.subscriptionId !== log.key.subscriptionId);
  }

  /** Resolves when everything marked so far is durable; rejects with the fault of the round that should have done it. */
  durable(): Promise<void> {
    if (!this.#running && this.#dirty.size === 0 && this.#owed.length === 0) return Promise.resolve();
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

  /** Writes what is left, folds, and stops. */
  async stop(): Promise<void> {
    this.#cancelFold?.();
    try {
      await this.durable();
      this.#stopped = true;
      await this.#fold();
    } finally {
      this.#stopped = true;
    }
  }

  #schedule(): void {
    if (this.#running || this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    const begin = (): void => {
      this.#scheduled = false;
      void this.#run();
    };
    const waitMs = this.#nextStartMs - this.#d.clock.nowMs();
    if (waitMs <= 0) this.#d.clock.soon(begin);
    else this.#d.clock.after(waitMs, begin);
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
      if (deltas.length > 0 || proof) await this.#d.store.appendAcks({ deltas: deltas.map(told) });
      for (const { log, delta } of deltas) log.cursor.written(delta);
      this.#nextStartMs = startedMs + intervalMs;
      for (const waiter of waiters) waiter.resolve();
    } catch (error) {
      this.#failed(deltas, waiters, error);
    }
    this.#running = false;
    if (this.#dirty.size > 0 || this.#waiters.length > 0 || this.#owed.length > 0) this.#schedule();
  }

  /** From the start of the round at hand to that of the next. */
  #intervalMs(startedMs: number): number {
    let repeated = 0;
    for (const log of this.#dirty) {
      if (startedMs - log.lastRoundMs < roundIntervalMsMax) repeated++;
      log.lastRoundMs = startedMs;
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
      this.#unfolded.add(log);
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
      this.#stopped = true;
      this.#d.onFenced();
    } else if (!(error instanceof Fault)) {
      this.#stopped = true;
      throw error;
    }
  }

  #armFold(): void {
    this.#cancelFold = this.#d.clock.after(foldIntervalMs, () => {
      this.#folding = this.#fold().catch(this.#d.onFoldFailed);
      void this.#folding.then(() => {
        if (!this.#stopped) this.#armFold();
      });
    });
  }

  /** An idle broker folds nothing, so it writes nothing. */
  async #fold(): Promise<void> {
    await this.#folding;
    if (this.#unfolded.size === 0) return;
    const folded = this.#unfolded;
    this.#unfolded = new Set();
    try {
      await this.#d.store.fold(() => snapshotsOf(folded));
    } catch (error) {
      for (const log of folded) this.#unfolded.add(log);
      throw error;
    }
  }
}

function told({ log, delta }: Delta): AckRound['deltas'][number] {
  return { key: log.key, delta };
}

function* snapshotsOf(logs: ReadonlySet<ConsumedLog>): Generator<StoredCursor> {
  for (const { key, cursor } of logs) yield { key, cursor: cursor.snapshot() };
}
