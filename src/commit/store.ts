import type { CursorChange } from '../consumption/offsets/cursor-key.ts';
import type { RecordSelection } from '../log/batch.ts';
import type { IdempotencyHit } from '../log/known-keys.ts';
import type { AckTable } from './ack-ring.ts';

/** What commits need of a database. `src/storage` implements it on PostgreSQL; the simulation has one in memory. */

/** One row to be written: at most `limits.storedBatchBytesMax`, unless it is one record. */
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

/** An idempotency key that becomes known with the append: record `index` of `batches[batch]`. */
export interface IdempotencyKeyToStore {
  readonly topicId: number;
  readonly key: string;
  readonly batch: number;
  readonly index: number;
}

export interface AppendTransaction {
  /** Sorted by partitionId; several batches of one partition stand in their order of append. */
  readonly batches: readonly BatchToAppend[];
  readonly keys: readonly IdempotencyKeyToStore[];
  /** What is settled; null: nothing is. */
  readonly acks: AckRow | null;
}

/** A row of the ack log. */
export interface AckRow {
  readonly table: AckTable;
  readonly deltas: readonly CursorChange[];
  /** Of the units whose settlements it has; a round has none. */
  readonly receipts: readonly string[];
}

/** Where acks on their own become durable. */
export interface AckLogStore {
  /** Appends a row, fenced; one of no deltas only shows that this broker still owns the log. */
  appendAcks(row: AckRow): Promise<void>;
}

export interface AppendedBatch {
  readonly baseOffset: number;
  readonly appendTimeUs: number;
}

export interface CommitStore extends AckLogStore {
  /**
   * Writes everything or nothing, fenced, on write connection `slot` (0 … slots - 1; one append at a time for each).
   * @returns where they went, in the order of `batches`, after the commit.
   * @throws Fault; a DATA_REFUSED or DATABASE_UNAVAILABLE one has written nothing. SegmentMoved if a batch names a
   *   segment that is not the topic's current one any more.
   */
  append(slot: number, transaction: AppendTransaction): Promise<AppendedBatch[]>;
  readonly appendSlots: number;
  /**
   * Whether the row with the receipt is in the table, asked for after every session has ended that may still write it. The caller
   * refers to the table, so that nobody truncates it. @throws Fault
   */
  hasReceipt(table: AckTable, receipt: string): Promise<boolean>;
  /** Those of the keys that are known to the topic and within its window. */
  findKeys(topicId: number, windowMs: number, keys: readonly string[]): Promise<Map<string, IdempotencyHit>>;
  /** Turns the ring of idempotency tables: keys older than the longest window are dropped. */
  turnIdempotencyRing(): Promise<void>;
}

export class SegmentMoved extends Error {
  override readonly name = 'SegmentMoved';
}
