import type { GroupChange, GroupSnapshot, RebalanceRow } from '../../coordinator/group.ts';
import type { AckTable } from '../../commit/ack-ring.ts';
import type { CursorKey } from '../../consumption/offsets/cursor-key.ts';
import type { CursorSnapshot } from '../../consumption/partitioned/cursor.ts';
import type { LogGap } from '../../retention/gap.ts';
import type { LifeInput, StateReason, SubscriptionLife, SubscriptionState } from '../../subscription/life.ts';

export { cursorName, type CursorKey } from '../../consumption/offsets/cursor-key.ts';

/** What delivery needs of the database. `src/storage` implements the port on PostgreSQL. */

/** A subscription. All times but `unattendedForMs` are those of the database's clock. */
export interface SubscriptionRow {
  readonly id: number;
  readonly groupId: number;
  readonly topicId: number;
  readonly createdAtMs: number;
  readonly state: SubscriptionState;
  readonly stateReason: StateReason;
  readonly stateChangedAtMs: number;
  /** null: it never dies. */
  readonly deadAfterMs: number | null;
  /** The last sign of life of the last member; null with a member, and before the first one. */
  readonly unattendedSinceMs: number | null;
  /** The time since then, when the row was read. */
  readonly unattendedForMs: number | null;
  /** Rises with every change of what is owed to the subscription, or of what it holds back. */
  readonly claimSeq: number;
}

/** The life of the subscription, for the machine. */
export function lifeOf(row: SubscriptionRow): SubscriptionLife {
  const { state, stateReason: reason, stateChangedAtMs: changedAtMs, deadAfterMs, unattendedSinceMs } = row;
  return { state, reason, changedAtMs, deadAfterMs, unattendedSinceMs };
}

/** What a call changes in the life of a subscription. */
export type SubscriptionInput =
  | { readonly type: 'PAUSE' | 'RESUME' }
  | Extract<LifeInput, { type: 'UPDATE' }>
  | {
      readonly type: 'CANCEL';
      /** The ends of the logs, up to which the subscription is owed. */
      readonly ends: readonly LogStart[];
      /** How many records below the ends are not acked, for the audit. */
      readonly owedRecords: number;
    };

/** The outcome of a change. FORBIDDEN changes nothing; GONE: there is no such subscription. */
export type SubscriptionChange =
  | { readonly type: 'STORED'; readonly row: SubscriptionRow }
  | { readonly type: 'FORBIDDEN'; readonly state: SubscriptionState }
  | { readonly type: 'GONE' };

/** A created or found subscription, and where it starts. */
export interface CreatedSubscription {
  readonly row: SubscriptionRow;
  /** By partition and lane. */
  readonly starts: readonly LogStart[];
}

/** A decision of a coordinator, to be written. */
export interface SavedChange {
  readonly groupId: number;
  readonly change: GroupChange;
  /** The time since the last sign of life of the group's members; null: this broker heard none. */
  readonly heardAgoMs: () => number | null;
}

export type GroupEnd = 'OFFSET_RETENTION' | 'GROUP_DELETED';

/** What a subscription is owed when its group ends, for the audit. */
export interface OwedRecords {
  readonly subscriptionId: number;
  readonly records: number;
}

/** A group that may not be in memory yet. */
export interface NamedGroup {
  readonly id: number;
  readonly name: string;
}

/** What an unloaded group has in the database, as far as it costs memory once it is loaded. */
export interface GroupSize {
  /** The topics of its subscriptions that are not cancelled. */
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

/** The gap of a cursor. */
export interface StoredGap {
  readonly key: CursorKey;
  readonly gap: LogGap;
  /** A member has got it, and the group has acked a record behind it since. */
  readonly isTold: boolean;
}

/** A gap that a member has got. */
export interface ToldGap {
  readonly key: CursorKey;
  /** The end of the gap. One that has grown since has another. */
  readonly last: number;
}

/** What a cursor is about to jump over. */
export interface CursorJump {
  readonly key: CursorKey;
  /** The incarnation of the cursor. */
  readonly resets: number;
  readonly gap: LogGap;
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
  /** null: it never dies. */
  readonly deadAfterMs: number | null;
  readonly offsets: readonly LogStart[];
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
  /**
   * Groups with their subscriptions that are not cancelled, ordered by id. A group that is gone is
   * left out.
   */
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
  /** The gaps of the cursors of the subscriptions, in no order. Some may not be open any more. */
  loadGaps(subscriptionIds: readonly number[]): Promise<StoredGap[]>;
  /**
   * Drops what `readAckLog` keeps for cursors of the subscriptions, which are in memory now. The
   * caller has all of them written by the next fold that were in the ack log.
   */
  cursorsLoaded(subscriptionIds: readonly number[]): void;
  /** Creates the group, or finds it. */
  createGroup(name: string): Promise<number>;
  /**
   * Removes a group with its members, subscriptions and cursors in one fenced transaction, and
   * writes an audit row for each of its subscriptions. The caller has made sure that the group has
   * no members. Does nothing if the group is gone. OFFSET_RETENTION does nothing either if a member
   * or a subscription that is ACTIVE or PAUSED is there.
   * @returns whether the group is gone.
   */
  endGroup(groupId: number, reason: GroupEnd, owed: readonly OwedRecords[]): Promise<boolean>;
  /**
   * Starts the retention of offsets again for groups without members, after a use of their offsets.
   */
  touchGroups(groupIds: readonly number[]): Promise<void>;
  /**
   * Writes members, generations and assignments of any number of groups in one fenced transaction,
   * since when each group is empty, which of them this broker has heard, and what that changes in
   * the lives of its subscriptions.
   * @param isRepeat the write before may have committed.
   * @returns the subscriptions whose life has changed; in a repeat all of the groups.
   */
  saveGroups(changes: readonly SavedChange[], isRepeat: boolean): Promise<SubscriptionRow[]>;
  /**
   * Writes in one fenced transaction that this broker has heard members of the groups. Should it
   * hear nothing more, their subscriptions count as left at its last renewal.
   */
  noteHeard(groupIds: readonly number[]): Promise<void>;
  /** The last rebalances of a group, the newest first. */
  loadRebalances(groupId: number): Promise<StoredRebalance[]>;
  /**
   * Creates subscriptions and their cursors in one fenced transaction. Returns existing ones
   * unchanged. A start below that of its log is stored as that of the log.
   */
  createSubscriptions(subscriptions: readonly NewSubscription[]): Promise<CreatedSubscription[]>;
  /** Changes the life of a subscription in one fenced transaction. A repeat changes nothing. */
  changeSubscription(subscriptionId: number, input: SubscriptionInput): Promise<SubscriptionChange>;
  /**
   * Ends the lives of those subscriptions that have been unattended for too long, in one fenced
   * transaction. @returns all of the named ones as they are now, but those that are gone.
   */
  markDead(subscriptionIds: readonly number[]): Promise<SubscriptionRow[]>;
  /**
   * Notes what cursors are about to jump over, in one fenced transaction. A gap is joined with an
   * untold one before, and with a told one that it touches. A cursor that was reset meanwhile, or
   * is gone, is left out.
   */
  saveGaps(jumps: readonly CursorJump[]): Promise<void>;
  /**
   * Notes in one fenced transaction that members have got the gaps. Once the acks behind them are
   * folded they may be removed. One that has grown or is gone is left out.
   */
  tellGaps(gaps: readonly ToldGap[]): Promise<void>;
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
