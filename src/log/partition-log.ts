import type { EncodedBatch, LogAddress } from './batch.ts';

/** A log as delivery sees it: its start, its end, and its records by offset. */
export interface PartitionLog {
  readonly address: LogAddress;
  /** The first stored offset. It only rises. */
  readonly startOffset: number;
  /** The high watermark: the offset of the next record. All records below it are committed. */
  readonly endOffset: number;
  /** Below it every record is complete. It never falls. */
  readonly watermark: number;
  /** The batch that contains `offset`; null if it is not in memory. */
  cached(offset: number): EncodedBatch | null;
  /**
   * The batch that contains `offset`, from the database if it is not in memory; null at the end.
   * Adjacent small batches are joined. Concurrent readers of the same offset share one fetch.
   * @throws Fault; BelowLogStart if the records are gone, and then `startOffset` is behind them.
   */
  fetch(offset: number): Promise<EncodedBatch | null>;
  /** The first offset that was appended at or after the time; the end if there is none. */
  offsetAtTime(timeUs: number): Promise<number>;
  /** Calls the listener after each change of `endOffset` or `startOffset`. */
  addListener(listener: AppendListener): void;
  removeListener(listener: AppendListener): void;
}

/** An object rather than a closure, because a group may listen to 100,000 partitions. */
export interface AppendListener {
  appended(): void;
  /** Called after `startOffset` has moved, because records were dropped. */
  trimmed(): void;
}
