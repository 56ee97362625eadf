/**
 * The data of the log: records enter as slices of buffers and leave as encoded batches. The log
 * never parses either form. `BatchCodec`, which src/wire implements, turns slices into batches.
 */

import { weights } from '../account/weights.ts';

/** Numbers in `RecordSet.bounds` for each record. */
export const boundsPerRecord = 8;

/**
 * Records as slices of one buffer. The bounds of record i begin at `bounds[i * 8]`: start and end
 * of the key, the headers, the value and the rest, in this order. An absent part has start = end
 * = 0. `headers` is the run of encoded `headers` fields, with tags and lengths as in a Record
 * message. `rest` is the run of all other known fields, in the same form.
 */
export interface RecordSet {
  readonly count: number;
  readonly buffer: Buffer;
  readonly bounds: Int32Array;
}

/** Some records of a set, by ascending index. */
export interface RecordSelection {
  readonly set: RecordSet;
  readonly indexes: Int32Array;
}

/** Bytes of all four parts of one record. */
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

/** The indexes of `count` records: 0, 1, 2, … */
export function allOf(count: number): Int32Array {
  const indexes = new Int32Array(count);
  for (let index = 0; index < count; index++) indexes[index] = index;
  return indexes;
}

/** A stored batch: one row of `record_batches`. Its offsets have no gaps. */
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
 * Records of one log, encoded once for all readers. `SubscribeResponse.batch`,
 * `PullResponse.batches` and `ReadMessagesResponse.batches` all have field number 4, so the same
 * bytes serve all three. Offsets have no gaps, and every attempt is 1.
 */
export interface EncodedBatch {
  readonly baseOffset: number;
  readonly count: number;
  /** The whole field: tag, length and Batch message. */
  readonly bytes: Buffer;
  /** The position in `bytes` at which the first record begins. */
  readonly recordsStart: number;
  /** `recordEnds[i]` is the position in `bytes` behind record i. */
  readonly recordEnds: Uint32Array;
}

export interface BatchCodec {
  /** Encodes adjacent stored batches of one log as one. There must be no gap between them. */
  encode(address: LogAddress, batches: readonly StoredBatch[]): EncodedBatch;
  /** Joins adjacent encoded batches of one log. There must be no gap between them. */
  join(batches: readonly EncodedBatch[]): EncodedBatch;
  /**
   * Encodes only the records at `offsets`, which are ascending and within the batch, each with its
   * attempt.
   * @returns the whole field: tag, length and Batch message.
   */
  cut(batch: EncodedBatch, offsets: readonly number[], attempts: readonly number[]): Buffer;
}

/** What a batch takes outside of the heap. */
export function batchBytes({ bytes, recordEnds }: EncodedBatch): number {
  return bytes.length + recordEnds.byteLength;
}

/** Where the records of a batch begin and end. */
type RecordEnds = Pick<EncodedBatch, 'baseOffset' | 'recordsStart' | 'recordEnds'>;

/**
 * The sizes of the records of a batch. Records in flight keep them, and not the bytes of the batch,
 * which may be 64 MiB for one member.
 */
export class BatchSizes {
  readonly baseOffset: number;
  readonly recordsStart: number;
  readonly recordEnds: Uint32Array;

  constructor({ baseOffset, recordsStart, recordEnds }: RecordEnds) {
    this.baseOffset = baseOffset;
    this.recordsStart = recordsStart;
    this.recordEnds = recordEnds;
  }

  get keptBytes(): number {
    return weights.batchSizes + this.recordEnds.byteLength;
  }

  bytesOf(first: number, last: number): number {
    return recordBytes(this, first, last);
  }
}

/** Bytes of the records from offset `first` to `last`, inclusive. Byte credit counts in them. */
export function recordBytes(batch: RecordEnds, first: number, last: number): number {
  const begin = first === batch.baseOffset ? batch.recordsStart : batch.recordEnds[first - batch.baseOffset - 1]!;
  return batch.recordEnds[last - batch.baseOffset]! - begin;
}

export function endOffset(batch: EncodedBatch): number {
  return batch.baseOffset + batch.count;
}

/**
 * Finds the longest run of records from `first`, up to `last`, for which `fits` is true. It
 * bisects, because every shorter run than one that fits must fit too.
 * @returns the last offset of the run; `first - 1` if not even one record fits.
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
 * Encodes the records `first` to `last` as one field. A whole batch whose attempts are all 1 is
 * returned as it is, without a copy. `attemptOf` is null if every attempt is known to be 1.
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
