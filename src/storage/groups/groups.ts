import { Fault } from '../../errors/fault.ts';
import type { GroupChange } from '../../coordinator/group.ts';
import {
  cursorName,
  type CursorReset,
  type FoldResult,
  type FoundInAckLog,
  type GroupStore,
  type LoadedGroup,
  type NewSubscription,
  type StoredCursor,
  type StoredRebalance,
  type SubscriptionRow,
} from '../../delivery/ports/store.ts';
import { ackTables, type AckTable } from '../../commit/ack-ring.ts';
import { readRounds, truncateRounds } from '../commit/ack-log.ts';
import type { Connection } from '../sessions/connection.ts';
import { cursorUpdate, readCursors, resetCursors, type DeltaSum } from '../commit/cursors.ts';
import { loadGroups } from './group-load.ts';
import { createGroup, deleteGroup, saveGroups, touchGroups } from './group-rows.ts';
import { readRebalances } from './rebalances.ts';
import { cancelSubscription, createSubscriptions } from './subscriptions.ts';
import type { Logger } from '../../time/logger.ts';
import type { Writer } from '../sessions/writer.ts';
import type { Now } from '../pg/now.ts';

/** How long a fold waits for a reader of an ack log table before it leaves the table for the next fold. */
const truncateWaitMs = 100;

/**
 * Cursors that one transaction of a fold writes. A million at once would hold up everything else for seconds while they are written into one
 * statement, and take gigabytes; so many take 5 ms.
 */
const foldedTogetherMax = 5_000;

export interface GroupStorageDeps {
  readonly reads: Connection;
  readonly groups: Writer;
  /** Tables of the ack log that may have rows: a fold truncates them. */
  readonly filled: Set<AckTable>;
  /** A connection of its own: acks do not wait for a fold. */
  readonly folds: Writer;
  readonly now: Now;
  readonly log: Pick<Logger, 'warn'>;
}

/**
 * Groups, subscriptions and cursors in PostgreSQL.
 *
 * How far a cursor is stands in `cursors`, as of the last fold, and in the ack log, which is three tables used in turn.
 * What holds at every moment, so that a crash loses nothing:
 *  1. Every durable ack is in `cursors` or in a table of the ack log.
 *  2. A table is truncated only when all that is in it was written to `cursors` by a transaction that has committed. That
 *     is so for the tables not in use once a fold that began after the turn, and after the last settlement in them, has committed, all its pieces: it writes every cursor
 *     that a round named since the fold before, each as it is by then, and those that were found in the log at the load.
 *  3. Rounds may go twice, late, or in another order: they say how far a cursor is, and in which incarnation. Those of an
 *     incarnation before that in `cursors` say nothing.
 */
export class GroupStorage implements GroupStore {
  readonly #d: GroupStorageDeps;
  /** What the load found in the ack log and no fold has written yet. */
  #inherited = new Map<string, StoredCursor>();
  found: FoundInAckLog = { cursors: 0, rounds: 0 };

  constructor(deps: GroupStorageDeps) {
    this.#d = deps;
  }

  loadGroups(): Promise<LoadedGroup[]> {
    return this.#d.reads.run((client) => loadGroups(client, this.#d.now));
  }

  loadCursors(): Promise<StoredCursor[]> {
    return this.#d.reads.run(async (client) => {
      const sums = new Map<string, DeltaSum>();
      let rounds = 0;
      for (const table of ackTables) {
        const inTable = await readRounds(client, table, sums);
        if (inTable > 0) this.#d.filled.add(table);
        rounds += inTable;
      }
      // Cursors after the log: a fold between the two would be seen twice, which is harmless, instead of not at all.
      const stored = await readCursors(client);
      this.#inherited = new Map();
      const merged = stored.map((one) => {
        // After a shutdown the log is empty: then a name for each of a million cursors would be made for nothing.
        const sum = sums.size === 0 ? undefined : sums.get(cursorName(one.key));
        if (sum === undefined) return one;
        const known = { key: one.key, cursor: sum.appliedTo(one.cursor) };
        this.#inherited.set(cursorName(one.key), known);
        return known;
      });
      this.found = { cursors: this.#inherited.size, rounds };
      return merged;
    });
  }

  createGroup(name: string): Promise<number> {
    return this.#d.groups.transaction((client) => createGroup(client, name, this.#d.now));
  }

  deleteGroup(groupId: number): Promise<void> {
    // On the connection of the folds, so that the two never lock cursors in different orders.
    return this.#d.folds.transaction((client) => deleteGroup(client, groupId));
  }

  touchGroups(groupIds: readonly number[]): Promise<void> {
    return this.#d.groups.transaction((client) => touchGroups(client, groupIds, this.#d.now));
  }

  async saveGroups(changes: readonly { readonly groupId: number; readonly change: GroupChange }[]): Promise<void> {
    if (changes.length > 0) await this.#d.groups.transaction((client) => saveGroups(client, changes, this.#d.now));
  }

  loadRebalances(groupId: number): Promise<StoredRebalance[]> {
    return this.#d.reads.run((client) => readRebalances(client, groupId));
  }

  createSubscriptions(subscriptions: readonly NewSubscription[]): Promise<SubscriptionRow[]> {
    return this.#d.groups.transaction((client) => createSubscriptions(client, subscriptions, this.#d.now));
  }

  cancelSubscription(subscriptionId: number): Promise<void> {
    return this.#d.groups.transaction((client) => cancelSubscription(client, subscriptionId, this.#d.now));
  }

  async resetCursors(resets: readonly CursorReset[]): Promise<void> {
    // On the connection of the folds: see above.
    if (resets.length > 0) await this.#d.folds.transaction((client) => resetCursors(client, resets));
  }

  async fold(current: AckTable, snapshots: () => Iterable<StoredCursor>, mayGoOn = () => true): Promise<FoldResult> {
    const { filled } = this.#d;
    // The broker before may have used this table last. What it has is written by this fold, and goes with the next one.
    const hadRows = filled.has(current);
    let written = 0;
    for (const piece of pieces(withInherited(snapshots(), this.#inherited))) {
      if (written > 0 && !mayGoOn()) return 'CUT';
      await this.#d.folds.write(cursorUpdate(piece));
      written++;
    }
    this.#inherited = new Map();
    const others = ackTables.filter((table) => table !== current);
    await this.#truncate(others.filter((table) => filled.has(table)));
    return hadRows || others.some((table) => filled.has(table)) ? 'KEPT' : 'EMPTIED';
  }

  /** Each by itself: one that somebody reads does not keep the others. */
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

/** A cursor that changed since the load knows what was found in the log. */
function* withInherited(
  changed: Iterable<StoredCursor>,
  inherited: ReadonlyMap<string, StoredCursor>,
): Generator<StoredCursor> {
  const left = new Map(inherited);
  for (const one of changed) {
    if (left.size > 0) left.delete(cursorName(one.key));
    yield one;
  }
  yield* left.values();
}

/** One piece after the other is taken from what is there when its turn comes. */
function* pieces(cursors: Iterable<StoredCursor>): Generator<StoredCursor[]> {
  let piece: StoredCursor[] = [];
  for (const cursor of cursors) {
    piece.push(cursor);
    if (piece.length < foldedTogetherMax) continue;
    yield piece;
    piece = [];
  }
  if (piece.length > 0) yield piece;
}
