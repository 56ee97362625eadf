import type { AckRing } from '../../commit/ack-ring.ts';
import type { AckLogStore } from '../../commit/store.ts';
import type { CursorChange } from '../../consumption/offsets/cursor-key.ts';
import { snapshotBytes } from '../../consumption/offsets/snapshot.ts';
import { Fault } from '../../errors/fault.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import type { Clock } from '../../time/clock.ts';
import type { Feed } from '../dispatch/feed.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import { Folds } from './folds.ts';
import type { AckLogCounts, GroupStore } from '../ports/store.ts';
import type { CursorDelta } from '../../consumption/partitioned/cursor.ts';

/**
 * The time between the starts of two rounds while acks come. A round starts at once if none ran
 * lately. Under load the interval gathers many acks in each round. It grows with the number of
 * cursors that move again and again, so that the WAL of the rounds stays small beside that of the
 * appends. A cursor that has not moved for the longest interval does not count, because waiting
 * would not save a write of it.
 */
const roundIntervalMs = 5;
const roundIntervalMsMax = 50;
const roundMsPerRepeatedCursor = 0.05;
const retryMs = 250;
/**
 * A row of the ack log has about so many bytes at most, because a successor reads a row at once. A
 * round with more is written as several rows, one after the other.
 */
const rowBytesMax = 1_048_576;

/** The part of a round that belongs to one cursor. */
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
  /** Called after a fold, with the topics whose cursors it has written. */
  readonly onFolded?: ((topicIds: ReadonlySet<number>) => void) | undefined;
}

/**
 * Makes acks durable in rounds. A round appends one row for all cursors of all groups that have
 * moved since the last one, or several rows if they are large. An UPDATE of each cursor would leave
 * a row version, and would fall to a hundredth of its speed while a long transaction is open
 * elsewhere in the database.
 *
 * One round runs at a time, so that an answer comes after its own round and all rounds before it:
 * ALREADY_ACKED may depend on an earlier round. The rows could go in any order
 * (src/consumption/partitioned/SPEC.md, invariant 10). More rounds at a time would gain little,
 * because a round of a thousand cursors takes the database 1.5 ms.
 */
export class AckRounds implements BackgroundJob {
  readonly #d: AckRoundsDeps;
  #dirty = new Set<Feed>();
  /** The cursors of the round under way that are not in a row yet. */
  #left = new Set<Feed>();
  #waiters: Waiter[] = [];
  /**
   * Deltas of the row that is being written, or whose write has failed. Their cursors do not have
   * them any more, so the next round writes them.
   */
  #owed: Delta[] = [];
  /** The next round is written even if there is nothing to write. */
  #proofWanted = false;
  #running = false;
  /** The last round that has begun. */
  #round: Promise<void> = Promise.resolve();
  /** Cancels the round that is scheduled. */
  #cancel: (() => void) | null = null;
  #nextStartMs = -Infinity;
  #stopped = false;
  readonly #folds: Folds;

  constructor(deps: AckRoundsDeps) {
    this.#d = deps;
    const { store, ring, clock, onFolded } = deps;
    this.#folds = new Folds({ store, ring, clock, onFolded, onFailed: deps.onFoldFailed });
  }

  /** @param found what the broker before has left in the ack log. */
  start(found?: AckLogCounts): void {
    this.#stopped = false;
    this.#folds.start(found);
  }

  /** Makes the next round write the cursor, which has moved. */
  mark(log: Feed): void {
    log.recount();
    this.#dirty.add(log);
    this.#schedule();
  }

  /**
   * Makes the next fold write the cursor, after a settlement of it. The next round writes the
   * committed offset to which the settlement and the acks before it have led.
   */
  settled(log: Feed): void {
    this.#folds.changed(log);
    this.#folds.appended(1);
    this.mark(log);
  }

  /** Makes the next fold write the cursor, of which `start` has found rounds in the ack log. */
  loaded(log: Feed): void {
    this.#folds.loaded(log);
  }

  /** Resolves when the cursors of all acks that are durable by now are folded. @throws Fault */
  folded(): Promise<void> {
    return this.#folds.now();
  }

  /** Leaves the cursors of the ended subscription of the log out of all later writes. */
  forget(log: Feed): void {
    this.#dirty.delete(log);
    this.#left.delete(log);
    this.#folds.forget(log);
    this.#owed = this.#owed.filter((one) => one.log.key.subscriptionId !== log.key.subscriptionId);
  }

  /** Resolves when all changes marked so far are durable; rejects with the fault of their round. */
  durable(): Promise<void> {
    if (!this.#running && this.#dirty.size === 0 && this.#owed.length === 0) return Promise.resolve();
    if (this.#stopped) return Promise.reject(notOwner());
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#schedule();
    });
  }

  /**
   * Resolves like `durable`, and after a write that begins later, which proves that this broker is
   * the owner. Otherwise a replaced broker could reject the ack of a record that its successor has
   * delivered. The member would believe it, and the record would stay in flight for ever.
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

  /** Stops without a write. Acks that wait for a round fail: another broker may own the cursors. */
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
    this.#left = this.#dirty;
    this.#dirty = new Set();
    try {
      await this.#writeRows();
      this.#nextStartMs = startedMs + intervalMs;
      for (const waiter of waiters) waiter.resolve();
    } catch (error) {
      this.#failed(waiters, error);
    }
    this.#running = false;
    if (this.#dirty.size > 0 || this.#waiters.length > 0 || this.#owed.length > 0) this.#schedule();
  }

  async #writeRows(): Promise<void> {
    let wanted = this.#proofWanted;
    this.#proofWanted = false;
    for (this.#takeRow(); this.#owed.length > 0 || wanted; this.#takeRow()) {
      await this.#append(this.#owed);
      for (const { log, delta } of this.#owed) log.cursor.written(delta);
      this.#owed = [];
      wanted = false;
    }
  }

  async #append(deltas: readonly Delta[]): Promise<void> {
    this.#folds.appended(deltas.length);
    await this.#d.commits.appendAcks({ table: this.#d.ring.current, deltas: deltas.map(changeOf), receipts: [] });
  }

  /** The time from the start of this round to the start of the next one. */
  #intervalMs(startedMs: number): number {
    let repeated = 0;
    for (const log of this.#dirty) {
      if (log.roundBegins(startedMs) < roundIntervalMsMax) repeated++;
    }
    return Math.min(roundIntervalMsMax, roundIntervalMs + repeated * roundMsPerRepeatedCursor);
  }

  /** Adds the next deltas to the owed ones, until they fill a row. */
  #takeRow(): void {
    let bytes = this.#owed.reduce((sum, { delta }) => sum + snapshotBytes(delta), 0);
    for (const log of this.#left) {
      if (bytes >= rowBytesMax) return;
      this.#left.delete(log);
      const delta = log.cursor.takeDelta();
      if (delta === null) continue;
      bytes += snapshotBytes(delta);
      this.#owed.push({ log, delta });
      this.#folds.changed(log);
    }
  }

  /**
   * Leaves the owed deltas to a later round, which may write them a second time, and the cursors
   * that were not taken yet. The waiters get no OK.
   */
  #failed(waiters: readonly Waiter[], error: unknown): void {
    for (const log of this.#left) this.#dirty.add(log);
    this.#left.clear();
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

function changeOf({ log, delta }: Delta): CursorChange {
  return { key: log.key, delta };
}
