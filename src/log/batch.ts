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

/** Bytes of the slices of one record. */
export function sliceBytes({ bounds }: RecordSet, record: number): number {
  const at = record * boundsPerRecord;
  return (
    bounds[at + 1]! -
    bounds[at]! +
    bounds[at + 3]! -
    bounds[at + 2]! +
    bounds[at + 5]! -
    bounds[at + 4]! +
    bounds[at + 7]! -
    bounds[at + 6]!
  );
}

/** The indexes of so many records: 0, 1, 2, … */
export function allOf(count: number): Int32Array {
  const indexes = new Int32Array(count);
  for (let index = 0; index < count; index++) indexes[index] = index;
  return indexes;
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

/**
 * How many records from `first` on `fit`, up to `last`: by bisection, since with a number of records every smaller one fits.
 * @returns the last one; `first - 1` if not even one fits.
 */
export function lastThatFits(
  batch: EncodedBatch,
  first: number,
  last: number,
  fits: (records: number, bytes: number) => boolean,
): number {
  let low = 0;
  let high = last - first + 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle, recordBytes(batch, first, first + middle - 1))) low = middle;
    else high = middle - 1;
  }
  return first + low - 1;
}

/**
 * The records `first` to `last` as one field: the batch's own bytes, if that is all of it and each attempt is 1. `attemptOf` is null
 * where that is known of all of them.
 */
export function fieldOf(
  codec: BatchCodec,
  batch: EncodedBatch,
  first: number,
  last: number,
  attemptOf: ((offset: number) => number) | null,
): Buffer {
  const isWhole = last - first + 1 === batch.count;
  if (isWhole && attemptOf === null) return batch.bytes;
  const offsets = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const attempts = offsets.map(attemptOf ?? (() => 1));
  return isWhole && attempts.every((attempt) => attempt === 1) ? batch.bytes : codec.cut(batch, offsets, attempts);
}
