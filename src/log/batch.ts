/**
 * What passes through the log: records as slices of buffers on the way in, encoded batches on the way out. The log
 * never looks inside either; `BatchCodec` (implemented by src/wire) turns the one into the other.
 */

/** How many numbers of `RecordSet.bounds` belong to one record. */
export const boundsPerRecord = 8;

/**
 * Records as slices of one buffer. Record i has eight bounds from `bounds[i * 8]` on: start and end of key, headers,
 * value and rest, in this order. A part that is absent has start = end = 0. `headers` is the run of encoded `headers`
 * fields with their tags and lengths as they stand in a Record message; `rest` likewise for every other known field
 * but key, value and headers.
 */
export interface RecordSet {
  readonly count: number;
  readonly buffer: Buffer;
  readonly bounds: Int32Array;
}

/** Some records of a set, by index, in order. */
export interface RecordSelection {
  readonly set: RecordSet;
  readonly indexes: Int32Array;
}

/** A stored batch: one row of `record_batches`. Offsets run densely from `baseOffset`. */
export interface StoredBatch {
  readonly baseOffset: number;
  /** Microseconds since the epoch, by the database's clock. */
  readonly appendTimeUs: number;
  readonly records: readonly RecordSelection[];
}

/** One log: the records of a topic's partition in a lane. */
export interface LogAddress {
  readonly topicId: number;
  readonly topicName: string;
  readonly partition: number;
  readonly lane: number;
}

/**
 * Records of one log, encoded once for every reader as field 4 of an event (`SubscribeResponse.batch`,
 * `PullResponse.batches` and `ReadMessagesResponse.batches` have the same number, so the same bytes serve all): tag,
 * length, Batch message. Offsets run densely from `baseOffset`; every attempt is 1.
 */
export interface EncodedBatch {
  readonly baseOffset: number;
  readonly count: number;
  /** Tag, length and Batch message. */
  readonly bytes: Buffer;
  /** Position in `bytes` where the first record begins. */
  readonly recordsStart: number;
  /** `ends[i]` is the position in `bytes` behind record i. */
  readonly recordEnds: Uint32Array;
}

export interface BatchCodec {
  /** Encodes neighbouring stored batches of one log as one. Their offsets run densely from the first one's base. */
  encode(address: LogAddress, batches: readonly StoredBatch[]): EncodedBatch;
  /** Neighbouring encoded batches of one log as one. */
  join(batches: readonly EncodedBatch[]): EncodedBatch;
  /**
   * The same field holding only the records `offsets` (ascending, all within the batch), each with its attempt.
   * @returns tag, length and Batch message.
   */
  cut(batch: EncodedBatch, offsets: readonly number[], attempts: readonly number[]): Buffer;
}

/** Bytes that the records `first` to `last` (offsets, inclusive) take within the batch: the unit of byte credit. */
export function recordBytes(batch: EncodedBatch, first: number, last: number): number {
  const begin = first === batch.baseOffset ? batch.recordsStart : batch.recordEnds[first - batch.baseOffset - 1]!;
  return batch.recordEnds[last - batch.baseOffset]! - begin;
}

export function endOffset(batch: EncodedBatch): number {
  return batch.baseOffset + batch.count;
}
