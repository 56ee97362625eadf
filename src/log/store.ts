import type { StoredBatch } from './batch.ts';

/** What the log needs of a database. `src/storage` implements it on PostgreSQL; the simulation has one in memory. */

export interface PartitionRow {
  /** Id of the row that an append locks; locks are taken in the order of these ids. */
  readonly id: number;
  readonly partition: number;
}

export interface TopicRow {
  readonly id: number;
  readonly name: string;
  readonly semantics: 'PUB_SUB';
  readonly idempotencyWindowMs: number;
  readonly description: string;
  readonly createdAtMs: number;
  /** In order of `partition`, from 0. */
  readonly partitions: readonly PartitionRow[];
  /** The segment (leaf table) that appends go to. */
  readonly segment: number;
}

export interface LogEnd {
  readonly partition: number;
  readonly lane: number;
  /** First stored offset. */
  readonly startOffset: number;
  /** The offset that the next record will get. */
  readonly endOffset: number;
}

export interface ReadRequest {
  readonly topicId: number;
  readonly partition: number;
  readonly lane: number;
  /** The batch that contains this offset comes first. */
  readonly offset: number;
  readonly bytesMax: number;
}

/** One record of a topic. */
export interface RecordPlace {
  readonly partition: number;
  readonly lane: number;
  readonly offset: number;
}

/** How far a topic's current segment is. */
export interface SegmentSize {
  readonly bytes: number;
  readonly ageMs: number;
  readonly nextIsMade: boolean;
}

export interface LogStore {
  /** Start and end of every log of a topic, read under the partitions' locks so that no append in flight is missed. */
  ends(topicId: number): Promise<LogEnd[]>;
  /** Neighbouring stored batches from an offset on, about `bytesMax`, at least one unless the offset is the end. */
  read(request: ReadRequest): Promise<StoredBatch[]>;
  /** The first offset whose append time is at or after the time; null if there is none. */
  offsetAtTime(topicId: number, partition: number, lane: number, timeUs: number): Promise<number | null>;
  /**
   * How long ago records of a topic were appended, in milliseconds, by the database's clock alone; null where there is none. In the order
   * of `places`.
   */
  appendAges(topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]>;
  /**
   * Makes the topic's next segment, which nothing goes to before `rollSegment`. Does nothing if it is made, or if `current` is not
   * the current one. Appends go on meanwhile, also while it waits for others that lock the topic's table. @throws Fault
   */
  makeSegment(topicId: number, current: number): Promise<void>;
  /**
   * Sends appends to the topic's next segment. Does nothing if that is not made, or if `current` is not the current one.
   * @returns the current segment.
   */
  rollSegment(topicId: number, current: number): Promise<number>;
  segmentSize(topicId: number, segment: number): Promise<SegmentSize>;
}

/** What is chosen about a topic when it is made. */
export interface NewTopic {
  readonly name: string;
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
}

export interface TopicStore {
  /** All topics that are not deleted. */
  loadTopics(): Promise<TopicRow[]>;
  /**
   * Makes the topic, its partitions and its first segment, fenced; null if the name is taken.
   */
  createTopic(topic: NewTopic): Promise<TopicRow | null>;
  /** Fenced. @returns the topic as it is now; null if it does not exist. */
  updateTopic(
    topicId: number,
    change: { readonly idempotencyWindowMs?: number; readonly description?: string },
  ): Promise<TopicRow | null>;
  /**
   * Gives the topic more partitions, up to `count` in all, and its active subscriptions cursors at 0 in them, in one fenced
   * transaction; nothing if it has as many or more.
   * @returns the topic as it is now; null if it does not exist.
   */
  addPartitions(topicId: number, count: number): Promise<TopicRow | null>;
  /**
   * Removes the topic with its subscriptions, cursors, assignments and idempotency keys in one fenced transaction, and
   * notes its segments for `dropSegments`.
   */
  deleteTopic(topicId: number): Promise<void>;
  /** Drops the tables of segments that were noted, each detached first; what cannot be dropped now stays noted. */
  dropSegments(): Promise<void>;
}
