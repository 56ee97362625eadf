import type { GroupChange, GroupSnapshot, RebalanceRow } from '../../coordinator/group.ts';
import type { AckTable } from '../../commit/ack-ring.ts';
import type { CursorKey } from '../../consumption/offsets/cursor-key.ts';
import type { CursorSnapshot } from '../../consumption/partitioned/cursor.ts';

export { cursorName, type CursorKey } from '../../consumption/offsets/cursor-key.ts';

/** What delivery needs of a database. `src/storage` implements it on PostgreSQL; the simulation has one in memory. */

export interface SubscriptionRow {
  readonly id: number;
  readonly groupId: number;
  readonly topicId: number;
  readonly createdAtMs: number;
}

/** A group that may not be in memory yet. */
export interface NamedGroup {
  readonly id: number;
  readonly name: string;
}

export interface LoadedGroup extends NamedGroup {
  readonly snapshot: GroupSnapshot;
  readonly subscriptions: readonly SubscriptionRow[];
  /** How long it has had no members, by the database's clock; null if it has some. */
  readonly emptyForMs: number | null;
}

/** A rebalance as it is read back. */
export interface StoredRebalance extends RebalanceRow {
  /** By the database's clock, milliseconds since the epoch. */
  readonly endedAtMs: number;
}

export interface StoredCursor {
  readonly key: CursorKey;
  readonly cursor: CursorSnapshot;
}

/** A cursor that is to begin anew. */
export interface CursorReset {
  readonly key: CursorKey;
  /** The next offset to be read. */
  readonly offset: number;
  /** The incarnation that begins: one more than the last. */
  readonly resets: number;
}

/** What the broker before has left in the ack log: cursors that it names, and its rounds. */
export interface FoundInAckLog {
  readonly cursors: number;
  readonly rounds: number;
}

/** EMPTIED: the log has nothing of before the fold. KEPT: a table stays for the next fold. CUT: not all was written. */
export type FoldResult = 'EMPTIED' | 'KEPT' | 'CUT';

/** Where a subscription begins in a log. */
export interface LogStart {
  readonly partition: number;
  readonly lane: number;
  readonly offset: number;
}

/** Logs that `offsets` does not name are begun at 0. */
export interface NewSubscription {
  readonly groupId: number;
  readonly topicId: number;
  readonly offsets: readonly LogStart[];
}

export interface GroupStore {
  /** All groups, in the order of their ids. */
  listGroups(): Promise<NamedGroup[]>;
  /**
   * Reads what the broker before has left in the ack log. The store keeps it until a fold has
   * written it. Cursors are loaded after it, and until then a fold truncates nothing.
   */
  readAckLog(): Promise<FoundInAckLog>;
  /** Groups with their active subscriptions, in the order of the ids. One that is gone is left out. */
  loadGroups(groupIds: readonly number[]): Promise<LoadedGroup[]>;
  /** The cursors of subscriptions: folded cursors with the ack log applied. */
  loadCursors(subscriptionIds: readonly number[]): Promise<StoredCursor[]>;
  /** Makes a group, or finds it. */
  createGroup(name: string): Promise<number>;
  /**
   * Removes a group with its members, subscriptions and cursors in one fenced transaction; one that is gone is fine. The caller knows
   * that it has no members.
   */
  deleteGroup(groupId: number): Promise<void>;
  /** Groups without members count as empty from now on: something was done with their offsets. */
  touchGroups(groupIds: readonly number[]): Promise<void>;
  /** Writes members, generations and assignments of any number of groups in one fenced transaction; also since when they are empty. */
  saveGroups(changes: readonly { readonly groupId: number; readonly change: GroupChange }[]): Promise<void>;
  /** The last rebalances of a group, the newest first. */
  loadRebalances(groupId: number): Promise<StoredRebalance[]>;
  /** Makes subscriptions and their cursors in one fenced transaction; one that exists already is returned as it is. */
  createSubscriptions(subscriptions: readonly NewSubscription[]): Promise<SubscriptionRow[]>;
  cancelSubscription(subscriptionId: number): Promise<void>;
  /**
   * Begins cursors anew in one fenced transaction. What rounds and folds say of earlier incarnations, before or after it,
   * changes nothing from then on. Repeating it is harmless.
   */
  resetCursors(resets: readonly CursorReset[]): Promise<void>;
  /**
   * Folds, after the ring was turned to `current` and no settlement refers to the other tables: `snapshots()` is asked for the present state
   * of the cursors that changed since the last fold, they are written to `cursors` with those that `readAckLog` found, loaded or not, and
   * the other tables of the ring are truncated. They are asked for and written in pieces, while rounds go on: a cursor's state may be a
   * later one than that of the turn. Before each piece but the first `mayGoOn` is asked (default: yes). If that says no, or a piece fails,
   * those before it stay written, and nothing is truncated.
   */
  fold(current: AckTable, snapshots: () => Iterable<StoredCursor>, mayGoOn?: () => boolean): Promise<FoldResult>;
}
