import { Fault } from '../../errors/fault.ts';
import {
  cursorName,
  type CreatedSubscription,
  type CursorJump,
  type CursorKey,
  type CursorReset,
  type FoldResult,
  type FoundInAckLog,
  type GroupEnd,
  type GroupStore,
  type LoadedGroup,
  type ListedGroup,
  type NewSubscription,
  type OwedRecords,
  type SavedChange,
  type StoredCursor,
  type StoredGap,
  type StoredRebalance,
  type SubscriptionChange,
  type SubscriptionInput,
  type SubscriptionRow,
  type ToldGap,
} from '../../delivery/ports/store.ts';
import { ackTables, type AckTable } from '../../commit/ack-ring.ts';
import { readRounds, truncateRounds } from '../commit/ack-log.ts';
import type { Connection } from '../sessions/connection.ts';
import { cursorUpdate, readCursors, readNamedCursors } from '../commit/cursors.ts';
import { DeltaSums } from '../commit/delta-sums.ts';
import { snapshotBytes } from '../../consumption/offsets/snapshot.ts';
import { markDead } from './attendance.ts';
import { readGaps, saveGaps, tellGaps } from './gaps.ts';
import { resetCursors } from './cursor-resets.ts';
import { listGroups } from './group-list.ts';
import { loadGroups } from './group-load.ts';
import { createGroup, endGroup, noteHeard, saveGroups, touchGroups } from './group-rows.ts';
import { readRebalances } from './rebalances.ts';
import { changeSubscription } from './subscription-changes.ts';
import { activeSubscriptions, createSubscriptions, readSubscriptions } from './subscriptions.ts';
import type { Logger } from '../../time/logger.ts';
import type { Writer } from '../sessions/writer.ts';
import type { Now } from '../pg/now.ts';

/**
 * How long a fold waits for readers of an ack table, before it leaves the table to the next fold.
 */
const truncateWaitMs = 100;

/**
 * The most cursors in one transaction of a fold, which the broker encodes in 5 ms, and their bytes.
 * A million in one statement would block the broker for seconds, and take gigabytes.
 */
const foldedTogetherMax = 5_000;
const foldedBytesMax = 4_194_304;
/** The most cursors of the predecessor's log that are read together, each of which may be large. */
const inheritedTogetherMax = 500;

interface GroupStorageDeps {
  readonly reads: Connection;
  readonly groups: Writer;
  /** The tables of the ack log that may have rows, which a fold truncates. */
  readonly filled: Set<AckTable>;
  /** A separate connection, so that acks do not wait for a fold. */
  readonly folds: Writer;
  readonly now: Now;
  readonly log: Pick<Logger, 'warn'>;
}

/**
 * Groups, subscriptions and cursors in PostgreSQL.
 *
 * The state of a cursor is its row in `cursors`, as of the last fold, and its deltas in the ack
 * log, which is three tables used in turn. Always true, so that a crash loses nothing:
 *  1. Every durable ack is in `cursors` or in a table of the ack log.
 *  2. A fold truncates a table that is not in use, after all its own transactions have committed.
 *     It begins after the turn, and after the last settlement in the table. It writes every cursor
 *     that a round named since the last fold, in its present state. It also writes every cursor
 *     that the predecessor left in the log and that is not loaded.
 *  3. Rounds may come twice, late, or in another order, because a delta has the position and the
 *     incarnation of its cursor, and not a step. A delta of an incarnation before that in `cursors`
 *     changes nothing.
 */
export class GroupStorage implements GroupStore {
  readonly #d: GroupStorageDeps;
  /**
   * What the predecessor left in the ack log; null until it is read. A load may apply it again
   * after a fold, which changes nothing.
   */
  #inherited: DeltaSums | null = null;

  constructor(deps: GroupStorageDeps) {
    this.#d = deps;
  }

  listGroups(): Promise<ListedGroup[]> {
    return this.#d.reads.run(listGroups);
  }

  readAckLog(): Promise<FoundInAckLog> {
    return this.#d.reads.run(async (client) => {
      const sums = new DeltaSums(await activeSubscriptions(client));
      let rounds = 0;
      for (const table of ackTables) {
        const inTable = await readRounds(client, table, sums);
        if (inTable > 0) this.#d.filled.add(table);
        rounds += inTable;
      }
      this.#inherited = sums;
      return { cursors: sums.size, rounds, sizes: sums.sizes() };
    });
  }

  loadGroups(groupIds: readonly number[]): Promise<LoadedGroup[]> {
    return this.#d.reads.run((client) => loadGroups(client, groupIds, this.#d.now));
  }

  async loadCursors(
    subscriptionIds: readonly number[],
    visit: (stored: StoredCursor, inAckLog: boolean) => void,
  ): Promise<void> {
    // The sums are taken before the cursors are read. A fold in between is then applied twice,
    // which is harmless. In the other order it could be missed.
    const inherited = this.#inherited;
    if (inherited === null) throw new Error('cursors are loaded after the ack log is read');
    const sums = inherited.copy();
    await this.#d.reads.run((client) =>
      readCursors(client, subscriptionIds, (stored) => {
        visit(sums.appliedTo(stored), sums.has(stored));
      }),
    );
  }

  loadGaps(subscriptionIds: readonly number[]): Promise<StoredGap[]> {
    return this.#d.reads.run((client) => readGaps(client, subscriptionIds));
  }

  cursorsLoaded(subscriptionIds: readonly number[]): void {
    for (const id of subscriptionIds) this.#inherited?.drop(id);
  }

  createGroup(name: string): Promise<number> {
    return this.#d.groups.transaction((client) => createGroup(client, name, this.#d.now));
  }

  endGroup(groupId: number, reason: GroupEnd, owed: readonly OwedRecords[]): Promise<boolean> {
    // This uses the connection of the folds, so that the two never lock cursors in different
    // orders.
    return this.#d.folds.transaction((client) => endGroup(client, groupId, reason, owed, this.#d.now));
  }

  touchGroups(groupIds: readonly number[]): Promise<void> {
    return this.#d.groups.transaction((client) => touchGroups(client, groupIds, this.#d.now));
  }

  async saveGroups(changes: readonly SavedChange[], isRepeat: boolean): Promise<SubscriptionRow[]> {
    if (changes.length === 0) return [];
    const { groups, now } = this.#d;
    return groups.transaction(async (client) => {
      const changed = await saveGroups(client, changes, now);
      const groupIds = changes.map(({ groupId }) => groupId);
      return isRepeat ? readSubscriptions(client, { groupIds }, now) : changed;
    });
  }

  async noteHeard(groupIds: readonly number[]): Promise<void> {
    if (groupIds.length > 0) await this.#d.groups.transaction((client) => noteHeard(client, groupIds));
  }

  loadRebalances(groupId: number): Promise<StoredRebalance[]> {
    return this.#d.reads.run((client) => readRebalances(client, groupId));
  }

  createSubscriptions(subscriptions: readonly NewSubscription[]): Promise<CreatedSubscription[]> {
    return this.#d.groups.transaction((client) => createSubscriptions(client, subscriptions, this.#d.now));
  }

  changeSubscription(subscriptionId: number, input: SubscriptionInput): Promise<SubscriptionChange> {
    // A cancel writes cursors. A fold finds their rows by place, so nobody else may move them.
    const writer = input.type === 'CANCEL' ? this.#d.folds : this.#d.groups;
    return writer.transaction((client) => changeSubscription(client, subscriptionId, input, this.#d.now));
  }

  async markDead(subscriptionIds: readonly number[]): Promise<SubscriptionRow[]> {
    if (subscriptionIds.length === 0) return [];
    return this.#d.groups.transaction((client) => markDead(client, subscriptionIds, this.#d.now));
  }

  async saveGaps(jumps: readonly CursorJump[]): Promise<void> {
    // This uses the connection of the folds, as resets and deletions do.
    if (jumps.length > 0) await this.#d.folds.transaction((client) => saveGaps(client, jumps, this.#d.now));
  }

  async tellGaps(gaps: readonly ToldGap[]): Promise<void> {
    if (gaps.length > 0) await this.#d.folds.transaction((client) => tellGaps(client, gaps));
  }

  async resetCursors(resets: readonly CursorReset[]): Promise<number[]> {
    // This uses the connection of the folds, for the reason in `endGroup`.
    if (resets.length === 0) return [];
    return this.#d.folds.transaction((client) => resetCursors(client, resets));
  }

  async fold(current: AckTable, snapshots: () => Iterable<StoredCursor>, mayGoOn = () => true): Promise<FoldResult> {
    const { filled, folds } = this.#d;
    // The table may have rows of the predecessor. This fold writes their cursors, and the next
    // truncates it.
    const hadRows = filled.has(current);
    const left = this.#inherited?.copy() ?? new DeltaSums();
    let written = 0;
    for await (const piece of this.#pieces(snapshots(), left)) {
      if (written > 0 && !mayGoOn()) return 'CUT';
      await folds.write(cursorUpdate(piece));
      written++;
    }
    // The ack log is not read yet, so its tables may have other rounds.
    if (this.#inherited === null) return 'KEPT';
    this.#inherited = new DeltaSums();
    const others = ackTables.filter((table) => table !== current);
    await this.#truncate(others.filter((table) => filled.has(table)));
    return hadRows || others.some((table) => filled.has(table)) ? 'KEPT' : 'EMPTIED';
  }

  /**
   * The cursors that a fold writes, in pieces that are taken one at a time: first the changed ones,
   * then those `left` of the predecessor's log. The latter may not be in memory, so they are read.
   */
  async *#pieces(changed: Iterable<StoredCursor>, left: DeltaSums): AsyncGenerator<StoredCursor[]> {
    const written = new Set<string>();
    for (const piece of inPieces(changed)) {
      // The state of a cursor that changed after its load includes its sum.
      if (left.size > 0) for (const { key } of piece) written.add(cursorName(key));
      yield piece;
    }
    const keys = [...left.keysBut(written)];
    for (let at = 0; at < keys.length; at += inheritedTogetherMax) {
      yield* inPieces(await this.#summed(keys.slice(at, at + inheritedTogetherMax), left));
    }
  }

  /** The cursors of the keys, of those that exist, with their sums. */
  async #summed(keys: readonly CursorKey[], sums: DeltaSums): Promise<StoredCursor[]> {
    const found: StoredCursor[] = [];
    await this.#d.reads.run((client) => readNamedCursors(client, keys, (stored) => found.push(sums.appliedTo(stored))));
    return found;
  }

  /**
   * Truncates each table in its own transaction, so that a reader of one does not block the others.
   */
  async #truncate(tables: readonly AckTable[]): Promise<void> {
    for (const table of tables) {
      try {
        await this.#d.folds.transaction((client) => truncateRounds(client, table, truncateWaitMs));
        this.#d.filled.delete(table);
      } catch (error) {
        if (error instanceof Fault && error.kind === 'FENCED') throw error;
        this.#d.log.warn(
          { err: error, table },
          'a table of the ack log could not be truncated; the next fold tries again',
        );
      }
    }
  }
}

function* inPieces(all: Iterable<StoredCursor>): Generator<StoredCursor[]> {
  let piece: StoredCursor[] = [];
  let bytes = 0;
  for (const one of all) {
    piece.push(one);
    bytes += snapshotBytes(one.cursor);
    if (piece.length < foldedTogetherMax && bytes < foldedBytesMax) continue;
    yield piece;
    piece = [];
    bytes = 0;
  }
  if (piece.length > 0) yield piece;
}
