import type { GapReason } from '../retention/gap.ts';
import type { RetentionSettings } from '../retention/settings.ts';
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
  readonly retention: RetentionSettings;
  /** Why the last drop took records from cursors that it passed. */
  readonly gapReason: GapReason;
  /** The ACTIVE and PAUSED subscriptions, at the time of the read. */
  readonly liveSubscriptions: number;
  /** The time since the current segment became the current one, at the time of the read. */
  readonly segmentAgeMs: number;
  /** The bytes of the current segment when they were last stored. */
  readonly segmentBytes: number;
  /** The bytes of the segments before it. */
  readonly sealedBytes: number;
  /** The number of segments, with the current one. */
  readonly segmentCount: number;
}

/** Where the records of one log begin that are still stored. */
export interface StoredStart {
  readonly partition: number;
  readonly lane: number;
  /** The first stored offset: the base of the log in the first segment that is still there. */
  readonly startOffset: number;
}

export interface LogEnd extends StoredStart {
  /** The offset that the next record will get. */
  readonly endOffset: number;
  /** The end of the log when the current segment began. */
  readonly segmentBaseOffset: number;
}

/** A read of records that retention has dropped. The start of the log has moved. */
export class BelowLogStart extends Error {
  override readonly name = 'BelowLogStart';
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
  /** Whether it has any record. A segment without records is never sealed. */
  readonly hasData: boolean;
}

export interface LogStore {
  /**
   * Reads the start and end of all logs of a topic, under the locks of its partitions to include
   * appends in flight.
   */
  ends(topicId: number): Promise<LogEnd[]>;
  /**
   * Reads the starts and ends of many topics without locks, and is therefore only for the load: the
   * takeover has ended all writes of before, and nobody appends to a topic whose ends are not
   * known. A topic that is gone is left out. @throws Fault
   */
  endsOf(topicIds: readonly number[]): Promise<Map<number, LogEnd[]>>;
  /** The starts of a topic's logs, without locks; none if the topic is gone. @throws Fault */
  starts(topicId: number): Promise<StoredStart[]>;
  /**
   * Reads adjacent batches of about `bytesMax` bytes, and at least one unless the offset is the
   * end.
   *
   * @throws BelowLogStart if the offset is below the start of the log.
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
   * does not exist, or if `current` is not the current segment. Stores `bytes` as those of the
   * sealed segment, if they are given.
   * @returns the current segment after the call.
   */
  rollSegment(topicId: number, current: number, bytes?: number): Promise<number>;
  /** Stores the bytes of the current segment, for the next load. */
  saveSegmentBytes(topicId: number, segment: number, bytes: number): Promise<void>;
  segmentSize(topicId: number, segment: number): Promise<SegmentSize>;
}

/** The choices of the call that creates a topic. */
export interface NewTopic {
  readonly name: string;
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
  readonly retention: RetentionSettings;
}

/** The fields that a call names. The others stay as they are in the database. */
export interface TopicChange {
  readonly idempotencyWindowMs?: number;
  readonly description?: string;
  readonly retention?: Partial<RetentionSettings>;
}

export interface TopicStore {
  /** All topics that are not deleted. */
  loadTopics(): Promise<TopicRow[]>;
  /** Creates the topic, its partitions and its first segment, fenced; null if the name is taken. */
  createTopic(topic: NewTopic): Promise<TopicRow | null>;
  /** Changes a topic, fenced. @returns the topic after the call; null if it does not exist. */
  updateTopic(topicId: number, change: TopicChange): Promise<TopicRow | null>;
  /**
   * Adds partitions until the topic has `count`, and cursors at offset 0 for its subscriptions that
   * are not cancelled, in one fenced transaction. Does nothing if the topic has as many or more.
   * @returns the topic after the call; null if it does not exist.
   */
  addPartitions(topicId: number, count: number): Promise<TopicRow | null>;
  /**
   * Removes the topic with its subscriptions, cursors, assignments and idempotency keys in one
   * fenced transaction. Its tables go by the steps of a drop.
   */
  deleteTopic(topicId: number): Promise<void>;
}
