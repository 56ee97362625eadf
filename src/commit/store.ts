import type { CursorChange } from '../consumption/offsets/cursor-key.ts';
import type { RecordSelection } from '../log/batch.ts';
import type { IdempotencyHit } from '../log/known-keys.ts';
import type { AckTable } from './ack-ring.ts';

/**
 * The port of commits to the database. `src/storage` implements it on PostgreSQL, and the
 * simulation in memory.
 */

/** A row to append, of at most `limits.storedBatchBytesMax` bytes unless it has only one record. */
export interface BatchToAppend {
  readonly topicId: number;
  readonly segment: number;
  readonly partitionId: number;
  readonly partition: number;
  readonly lane: number;
  readonly recordCount: number;
  readonly byteSize: number;
  readonly records: readonly RecordSelection[];
}

/** The idempotency key of record `index` of `batches[batch]`. */
export interface IdempotencyKeyToStore {
  readonly topicId: number;
  readonly key: string;
  readonly batch: number;
  readonly index: number;
}

export interface AppendTransaction {
  /** Sorted by `partitionId`, and within a partition in the order of append. */
  readonly batches: readonly BatchToAppend[];
  readonly keys: readonly IdempotencyKeyToStore[];
  /** The settlements; null if there are none. */
  readonly acks: AckRow | null;
}

/** A row of the ack log. */
export interface AckRow {
  readonly table: AckTable;
  readonly deltas: readonly CursorChange[];
  /** The receipts of the units whose settlements are in the row. An ack round has none. */
  readonly receipts: readonly string[];
}

/** Makes acks durable that belong to no other write. */
export interface AckLogStore {
  /** Appends a row, fenced. A row without deltas only proves that the broker still owns the log. */
  appendAcks(row: AckRow): Promise<void>;
}

export interface AppendedBatch {
  readonly baseOffset: number;
  readonly appendTimeUs: number;
}

export interface CommitStore extends AckLogStore {
  /**
   * Writes the whole transaction or nothing, fenced, on write connection `slot` (0 to
   * `appendSlots` - 1). A slot takes one append at a time.
   * @returns the offsets, in the order of `batches`, after the commit.
   * @throws Fault. DATA_REFUSED and DATABASE_UNAVAILABLE mean that nothing was written.
   * @throws SegmentMoved if the segment of a batch is no longer the topic's current one.
   */
  append(slot: number, transaction: AppendTransaction): Promise<AppendedBatch[]>;
  readonly appendSlots: number;
  /**
   * Whether the table has the row with the receipt. Ends the sessions that may still write the row
   * before it looks. The caller holds a reference to the table, so that no fold truncates it.
   * @throws Fault
   */
  hasReceipt(table: AckTable, receipt: string): Promise<boolean>;
  /** The given keys that the topic has within its window, with the places of their records. */
  findKeys(topicId: number, windowMs: number, keys: readonly string[]): Promise<Map<string, IdempotencyHit>>;
  /**
   * Turns the ring of idempotency tables, and drops keys that are older than the longest window.
   */
  turnIdempotencyRing(): Promise<void>;
}

export class SegmentMoved extends Error {
  override readonly name = 'SegmentMoved';
}
