import type { GroupChange, GroupSnapshot, RebalanceRow } from '../../coordinator/group.ts';
import type { AckTable } from '../../commit/ack-ring.ts';
import type { CursorKey } from '../../consumption/offsets/cursor-key.ts';
import type { CursorSnapshot } from '../../consumption/partitioned/cursor.ts';

export { cursorName, type CursorKey } from '../../consumption/offsets/cursor-key.ts';

/** What delivery needs of the database. `src/storage` implements the port on PostgreSQL. */

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

/** What an unloaded group has in the database, as far as it costs memory once it is loaded. */
export interface GroupSize {
  /** The topics of its active subscriptions. */
  readonly topicIds: readonly number[];
  readonly cursors: number;
  readonly members: number;
  /** Metadata and texts of the members. */
  readonly memberBytes: number;
  /** Notes of committed offsets. */
  readonly notes: number;
  readonly noteBytes: number;
  /** Runs of acked offsets above the committed ones. */
  readonly holes: number;
  /** Runs of delivery attempts, or more. */
  readonly attempts: number;
}

export interface ListedGroup extends NamedGroup {
  readonly size: GroupSize;
}

/** What the ack log has of the cursors of a group, beside what its size counts. */
export interface AckLogSize {
  readonly groupId: number;
  readonly size: Pick<GroupSize, 'notes' | 'noteBytes' | 'holes' | 'attempts'>;
}

export interface LoadedGroup extends NamedGroup {
  readonly snapshot: GroupSnapshot;
  readonly subscriptions: readonly SubscriptionRow[];
  /** How long the group has had no members, by the database's clock; null if it has some. */
  readonly emptyForMs: number | null;
}

/** A rebalance as stored. */
export interface StoredRebalance extends RebalanceRow {
  /** By the database's clock, milliseconds since the epoch. */
  readonly endedAtMs: number;
}

export interface StoredCursor {
  readonly key: CursorKey;
  readonly cursor: CursorSnapshot;
}

export interface CursorReset {
  readonly key: CursorKey;
  /** The committed offset with which the new incarnation begins. */
  readonly offset: number;
  /** The new incarnation: the last one plus one. */
  readonly resets: number;
}

/** What the predecessor has left in the ack log. Cursors of ended subscriptions do not count. */
export interface AckLogCounts {
  readonly cursors: number;
  readonly rounds: number;
}

export interface FoundInAckLog extends AckLogCounts {
  /** The groups whose cursors have more there than a committed offset. */
  readonly sizes: readonly AckLogSize[];
}

/**
 * EMPTIED: the ack log has nothing from before the fold. KEPT: a table stays for the next fold.
 * CUT: the fold ended early, and has not written all cursors.
 */
export type FoldResult = 'EMPTIED' | 'KEPT' | 'CUT';

/** Where a subscription starts in a log. */
export interface LogStart {
  readonly partition: number;
  readonly lane: number;
  readonly offset: number;
}

/** A subscription starts at 0 in logs that `offsets` does not name. */
export interface NewSubscription {
  readonly groupId: number;
  readonly topicId: number;
  readonly offsets: readonly LogStart[];
}

/** A created or found subscription, and where it starts, by partition and lane. */
export interface CreatedSubscription extends SubscriptionRow {
  readonly starts: readonly LogStart[];
}

export interface GroupStore {
  /**
   * All groups, in the order of their ids. Their sizes leave out what only the ack log has.
   */
  listGroups(): Promise<ListedGroup[]>;
  /**
   * Reads what the predecessor has left in the ack log. The store keeps the state of each cursor
   * until `cursorsLoaded` names it or a fold has written it. Cursors are loaded after the read, and
   * until then a fold truncates nothing.
   */
  readAckLog(): Promise<FoundInAckLog>;
  /** Groups with their active subscriptions, ordered by id. A group that is gone is left out. */
  loadGroups(groupIds: readonly number[]): Promise<LoadedGroup[]>;
  /**
   * Calls `visit` with each cursor of the subscriptions, in no order, with the ack log applied to
   * the folded state. `inAckLog` says whether no fold may have written what the log has of it. All
   * of them together may exceed the memory of the broker. A load that fails may have visited some.
   */
  loadCursors(
    subscriptionIds: readonly number[],
    visit: (stored: StoredCursor, inAckLog: boolean) => void,
  ): Promise<void>;
  /**
   * Drops what `readAckLog` keeps for cursors of the subscriptions, which are in memory now. The
   * caller has all of them written by the next fold that were in the ack log.
   */
  cursorsLoaded(subscriptionIds: readonly number[]): void;
  /** Creates the group, or finds it. */
  createGroup(name: string): Promise<number>;
  /**
   * Removes a group with its members, subscriptions and cursors in one fenced transaction. The
   * caller has made sure that the group has no members. Does nothing if the group is gone.
   */
  deleteGroup(groupId: number): Promise<void>;
  /**
   * Starts the retention of offsets again for groups without members, after a use of their offsets.
   */
  touchGroups(groupIds: readonly number[]): Promise<void>;
  /**
   * Writes members, generations and assignments of any number of groups in one fenced transaction,
   * and since when each group is empty.
   */
  saveGroups(changes: readonly { readonly groupId: number; readonly change: GroupChange }[]): Promise<void>;
  /** The last rebalances of a group, the newest first. */
  loadRebalances(groupId: number): Promise<StoredRebalance[]>;
  /**
   * Creates subscriptions and their cursors in one fenced transaction. Returns existing ones
   * unchanged. A start below that of its log is stored as that of the log.
   */
  createSubscriptions(subscriptions: readonly NewSubscription[]): Promise<CreatedSubscription[]>;
  cancelSubscription(subscriptionId: number): Promise<void>;
  /**
   * Begins new incarnations of cursors in one fenced transaction. Afterwards no round or fold of an
   * earlier incarnation counts, even one written later. A repeat changes nothing.
   * @returns the stored offsets, in the order of `resets`: never below the start of the log.
   */
  resetCursors(resets: readonly CursorReset[]): Promise<number[]>;
  /**
   * Folds the ack log: writes changed cursors to `cursors`, and truncates all tables of the ring
   * but `current`. The caller has turned the ring to `current`, and no settlement refers to the
   * others.
   *
   * `snapshots()` yields the cursors that changed since the last fold. The fold writes them, and
   * those that `readAckLog` found, loaded or not, in pieces while rounds go on. A snapshot may thus
   * be later than the turn.
   *
   * Before each piece but the first the fold calls `mayGoOn` (default: yes). If it returns false,
   * or a piece fails, the pieces before stay written and nothing is truncated.
   */
  fold(current: AckTable, snapshots: () => Iterable<StoredCursor>, mayGoOn?: () => boolean): Promise<FoldResult>;
}
