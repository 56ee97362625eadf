import type { EncodedBatch, LogAddress } from './batch.ts';

/** A log as delivery sees it: where it begins and ends, and its records by offset. */
export interface PartitionLog {
  readonly address: LogAddress;
  /** First stored offset. */
  readonly startOffset: number;
  /** The offset that the next record will get; everything below is committed. Also the high watermark. */
  readonly endOffset: number;
  /** The batch that contains `offset`, if it is in memory. Never waits. */
  cached(offset: number): EncodedBatch | null;
  /**
   * The batch that contains `offset`, from the database, neighbouring small ones joined. Readers that ask for the same
   * offset at once share one fetch.
   * @throws Fault
   */
  fetch(offset: number): Promise<EncodedBatch | null>;
  /** The first offset appended at or after a time; the end if there is none. */
  offsetAtTime(timeUs: number): Promise<number>;
  /** From now on the listener hears of each commit that moved `endOffset`. */
  addListener(listener: AppendListener): void;
  removeListener(listener: AppendListener): void;
}

/** An object, and no function made for it: a group over 100,000 partitions listens to each of them. */
export interface AppendListener {
  appended(): void;
}
