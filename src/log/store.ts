import type { StoredBatch } from './batch.ts';

/**
 * The port of the log to its database. `src/storage` implements it on PostgreSQL, and the
 * simulation in memory.
 */

export interface PartitionRow {
  /** The id of the row that an append locks. Rows are locked in the order of these ids. */
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
  /** Sorted by `partition`, from 0. */
  readonly partitions: readonly PartitionRow[];
  /** The segment (leaf table) that appends go to. */
  readonly segment: number;
}

export interface LogEnd {
  readonly partition: number;
  readonly lane: number;
  /** The first stored offset. */
  readonly startOffset: number;
  /** The offset that the next record will get. */
  readonly endOffset: number;
}

export interface ReadRequest {
  readonly topicId: number;
  readonly partition: number;
  readonly lane: number;
  /** The first batch of the answer contains this offset. */
  readonly offset: number;
  readonly bytesMax: number;
}

/** One record of a topic. */
export interface RecordPlace {
  readonly partition: number;
  readonly lane: number;
  readonly offset: number;
}

/** The size and age of a topic's current segment. */
export interface SegmentSize {
  readonly bytes: number;
  readonly ageMs: number;
  readonly nextIsMade: boolean;
}

export interface LogStore {
  /**
   * Reads the start and end of all logs of a topic, under the locks of its partitions to include
   * appends in flight.
   */
  ends(topicId: number): Promise<LogEnd[]>;
  /**
   * Reads adjacent batches of about `bytesMax` bytes, and at least one unless the offset is the
   * end.
   */
  read(request: ReadRequest): Promise<StoredBatch[]>;
  /** The first offset that was appended at or after the time; null if there is none. */
  offsetAtTime(topicId: number, partition: number, lane: number, timeUs: number): Promise<number | null>;
  /**
   * The ages of records since their append, in milliseconds, in the order of `places`; null if a
   * place has no record. Both times come from the database's clock.
   */
  appendAges(topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]>;
  /**
   * Makes the topic's next segment, unless it exists or `current` is not the current segment.
   * Appends use it after `rollSegment`. The call may wait for sessions that lock the topic's table,
   * but never blocks appends. @throws Fault
   */
  makeSegment(topicId: number, current: number): Promise<void>;
  /**
   * Makes the next segment the current one, to which appends go. Does nothing if the next segment
   * does not exist, or if `current` is not the current segment.
   * @returns the current segment after the call.
   */
  rollSegment(topicId: number, current: number): Promise<number>;
  segmentSize(topicId: number, segment: number): Promise<SegmentSize>;
}

/** The choices of the call that creates a topic. */
export interface NewTopic {
  readonly name: string;
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
}

export interface TopicStore {
  /** All topics that are not deleted. */
  loadTopics(): Promise<TopicRow[]>;
  /** Creates the topic, its partitions and its first segment, fenced; null if the name is taken. */
  createTopic(topic: NewTopic): Promise<TopicRow | null>;
  /** Changes a topic, fenced. @returns the topic after the call; null if it does not exist. */
  updateTopic(
    topicId: number,
    change: { readonly idempotencyWindowMs?: number; readonly description?: string },
  ): Promise<TopicRow | null>;
  /**
   * Adds partitions until the topic has `count`, and cursors at offset 0 for its active
   * subscriptions, in one fenced transaction. Does nothing if the topic has as many or more.
   * @returns the topic after the call; null if it does not exist.
   */
  addPartitions(topicId: number, count: number): Promise<TopicRow | null>;
  /**
   * Removes the topic with its subscriptions, cursors, assignments and idempotency keys in one
   * fenced transaction. Records its segments for `dropSegments`.
   */
  deleteTopic(topicId: number): Promise<void>;
  /**
   * Detaches and drops the tables of recorded segments. Those that cannot be dropped now stay
   * recorded.
   */
  dropSegments(): Promise<void>;
}
