import { begunAt, Cursor, type CursorBounds, type CursorSnapshot } from '../../consumption/partitioned/cursor.ts';
import { limits } from '../../limits/limits.ts';
import { lanesOf, namedLog, type LogName } from '../../log/lanes.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import { Feed, type FeedParts } from '../dispatch/feed.ts';
import type { SubscriptionRow } from '../ports/store.ts';

const cursorBounds: CursorBounds = {
  inFlightRecordsMax: limits.cursorInFlightRecordsMax,
  ackedRunsMax: limits.cursorRangesMax,
};

/** A partition's log, and how far the subscription is in it. */
export interface ClaimedLog {
  readonly log: PartitionLog;
  readonly cursor: CursorSnapshot;
}

/** What a subscription needs to know of its topic. */
export interface SubscribedTopic {
  readonly name: string;
  readonly lanes: number;
}

/** A subscription at work: the claim and one consumed log for each partition of its topic. */
export class ActiveSubscription {
  readonly row: SubscriptionRow;
  readonly topicName: string;
  /** How many each partition of the topic has. */
  readonly lanes: number;
  readonly #parts: FeedParts;
  readonly #logs: Feed[] = [];

  constructor(row: SubscriptionRow, topic: SubscribedTopic, claimed: readonly ClaimedLog[], parts: FeedParts) {
    this.row = row;
    this.topicName = topic.name;
    this.lanes = topic.lanes;
    this.#parts = parts;
    for (const one of claimed) this.#claim(one);
  }

  /** How many partitions of the topic it reads: all, with all their lanes. */
  get partitions(): number {
    return this.#logs.length / this.lanes;
  }

  /** By partition and lane. */
  get logs(): readonly Feed[] {
    return this.#logs;
  }

  /** The log that an entry of a request names; undefined: there is none. */
  find(name: LogName): Feed | 'LANE_REQUIRED' | undefined {
    return namedLog(this.#logs, this.lanes, name);
  }

  /** All lanes of a partition: a member holds them together. */
  lanesOf(partition: number): readonly Feed[] {
    return lanesOf(this.#logs, this.lanes, partition);
  }

  /** Takes in what the topic has more, from offset 0, as its cursors are in the database. @returns whether it has more. */
  grow(logs: readonly PartitionLog[]): boolean {
    const added = logs.slice(this.#logs.length);
    for (const log of added) this.#claim({ log, cursor: begunAt(0) });
    return added.length > 0;
  }

  #claim({ log, cursor }: ClaimedLog): void {
    const { partition, lane } = log.address;
    const key = { subscriptionId: this.row.id, partition, lane };
    this.#logs.push(new Feed(key, new Cursor(cursor, cursorBounds), log, this.#parts));
  }
}
