import { Hold } from '../../account/hold.ts';
import { begunAt, Cursor, type CursorBounds, type CursorSnapshot } from '../../consumption/partitioned/cursor.ts';
import { limits } from '../../limits/limits.ts';
import { lanesOf, namedLog, placeInTopic, type LogName } from '../../log/lanes.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import { Consumption } from '../../metrics/consumption.ts';
import { Feed, type FeedParts } from '../dispatch/feed.ts';
import { subscriptionBytes } from '../kept/sizes.ts';
import type { CursorKey, LogStart, StoredCursor, StoredGap, SubscriptionRow } from '../ports/store.ts';

const cursorBounds: CursorBounds = {
  inFlightRecordsMax: limits.cursorInFlightRecordsMax,
  ackedRunsMax: limits.cursorRangesMax,
  attemptRunsMax: limits.cursorAttemptRunsMax,
};

/** A log, and the progress of the subscription in it. */
export interface ClaimedLog {
  readonly log: PartitionLog;
  readonly cursor: Cursor;
}

export function cursorOf(snapshot: CursorSnapshot): Cursor {
  return new Cursor(snapshot, cursorBounds);
}

/** The cursors of subscriptions, each built while the others are read: no row stays in memory. */
export class LoadedCursors {
  readonly #bySubscription = new Map<number, { readonly key: CursorKey; readonly cursor: Cursor }[]>();
  readonly #inAckLog = new Set<Cursor>();
  readonly #gaps: Map<number, StoredGap[]>;

  constructor(gaps: readonly StoredGap[]) {
    this.#gaps = Map.groupBy(gaps, ({ key }) => key.subscriptionId);
  }

  readonly add = ({ key, cursor: snapshot }: StoredCursor, inAckLog: boolean): void => {
    const cursor = cursorOf(snapshot);
    const others = this.#bySubscription.get(key.subscriptionId);
    if (others === undefined) this.#bySubscription.set(key.subscriptionId, [{ key, cursor }]);
    else others.push({ key, cursor });
    if (inAckLog) this.#inAckLog.add(cursor);
  };

  /** The cursors of one subscription, in the order of the logs of the topic. */
  of(subscriptionId: number, lanes: number): Cursor[] {
    const cursors: Cursor[] = [];
    for (const { key, cursor } of this.#bySubscription.get(subscriptionId) ?? []) {
      if (key.lane < lanes) cursors[placeInTopic(lanes, key)] = cursor;
    }
    return cursors;
  }

  gapsOf(subscriptionId: number): readonly StoredGap[] {
    return this.#gaps.get(subscriptionId) ?? [];
  }

  /** Whether the next fold has to write the cursor. */
  inAckLog(cursor: Cursor): boolean {
    return this.#inAckLog.has(cursor);
  }
}

export interface SubscribedTopic {
  readonly name: string;
  readonly lanes: number;
}

/** A subscription in memory, with one feed for each log of its topic. */
export class ActiveSubscription {
  readonly groupName: string;
  readonly topicName: string;
  /** The number of lanes of each partition. */
  readonly lanes: number;
  /** Sums over all logs. */
  readonly consumption = new Consumption();
  readonly #parts: FeedParts;
  readonly #logs: Feed[] = [];
  readonly #hold: Hold;
  #row: SubscriptionRow;

  constructor(
    row: SubscriptionRow,
    topic: SubscribedTopic & { readonly groupName: string },
    claimed: readonly ClaimedLog[],
    parts: FeedParts,
  ) {
    this.#row = row;
    this.groupName = topic.groupName;
    this.topicName = topic.name;
    this.lanes = topic.lanes;
    this.#parts = parts;
    this.#hold = new Hold(parts.kept.cursors, 0);
    this.#claim(claimed);
  }

  /** The row as the database has it. Another one when it changes. */
  get row(): SubscriptionRow {
    return this.#row;
  }

  get isPaused(): boolean {
    return this.#row.state === 'PAUSED';
  }

  changed(row: SubscriptionRow): void {
    this.#row = row;
  }

  /** Makes all logs ready that a member holds. */
  wake(): void {
    for (const { seat } of this.#logs) seat?.wake();
  }

  /** The ends of the logs, up to which the subscription is owed. */
  ends(): LogStart[] {
    return this.#logs.map(({ key: { partition, lane }, log }) => ({ partition, lane, offset: log.endOffset }));
  }

  /** How many records are owed and not acked. */
  owedRecords(): number {
    return this.#logs.reduce((sum, { cursor, log }) => sum + cursor.lag(log.endOffset), 0);
  }

  /** The number of partitions of the topic. */
  get partitions(): number {
    return this.#logs.length / this.lanes;
  }

  /** Ordered by partition and lane. */
  get logs(): readonly Feed[] {
    return this.#logs;
  }

  /** The log that an entry of a request names, if it exists. */
  find(name: LogName): Feed | 'LANE_REQUIRED' | undefined {
    return namedLog(this.#logs, this.lanes, name);
  }

  /** Takes over the gap that the database has of a log. */
  gapLoaded({ key: { partition, lane }, gap, isTold }: StoredGap): void {
    this.lanesOf(partition)[lane]?.openGap(gap, isTold);
  }

  /** The logs of all lanes of a partition, which a member holds together. */
  lanesOf(partition: number): readonly Feed[] {
    return lanesOf(this.#logs, this.lanes, partition);
  }

  /**
   * Adds the logs by which the topic has grown. They begin at 0, like their cursors in the
   * database. @returns whether there were any.
   */
  grow(logs: readonly PartitionLog[]): boolean {
    const added = logs.slice(this.#logs.length);
    this.#claim(added.map((log) => ({ log, cursor: cursorOf(begunAt(0)) })));
    return added.length > 0;
  }

  /** The number of logs that no member holds. */
  get unheld(): number {
    return this.#logs.reduce((sum, { seat }) => (seat === null ? sum + 1 : sum), 0);
  }

  /** Whether no member holds any of the logs, as after the end of the subscription. */
  get isFree(): boolean {
    return this.#logs.every(({ isClosed, seat }) => isClosed || seat === null);
  }

  /** Closes the logs, and gives back what the account counts. Idempotent. */
  close(): void {
    for (const log of this.#logs) log.close();
    this.#hold.release();
  }

  #claim(claimed: readonly ClaimedLog[]): void {
    this.#hold.force(subscriptionBytes(this.#logs.length + claimed.length));
    for (const { log, cursor } of claimed) {
      const { partition, lane } = log.address;
      const key = { subscriptionId: this.row.id, partition, lane };
      this.#logs.push(new Feed(key, cursor, log, this.#parts, this));
    }
  }
}

export function byId(subscriptions: Iterable<ActiveSubscription>): ActiveSubscription[] {
  return [...subscriptions].sort((a, b) => a.row.id - b.row.id);
}
