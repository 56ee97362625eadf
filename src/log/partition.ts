import { Fault } from '../errors/fault.ts';
import type { Trouble } from '../errors/trouble.ts';
import type { BatchCodec, EncodedBatch, LogAddress } from './batch.ts';
import type { AppendListener, PartitionLog } from './partition-log.ts';
import type { Reader } from './reader.ts';
import { BelowLogStart, type LogEnd, type LogStore, type PartitionRow, type TopicRow } from './store.ts';
import type { Tail, TailCache } from './tail-cache.ts';

export interface PartitionParts {
  /** Notes records that the database should have. */
  readonly missing: Pick<Trouble, 'failed'>;
  readonly store: LogStore;
  readonly codec: BatchCodec;
  readonly tails: TailCache;
  readonly reader: Reader;
}

/** What a log needs of its topic, to which it adds its own changes. */
export interface SumOfLogs {
  /** The sum of the ends of all logs. */
  ends: number;
  /** The sum of their watermarks. */
  watermarks: number;
  /** Reads the starts of the logs again, because a read has met records that are gone. */
  refreshStarts(): Promise<void>;
}

/** One log that the broker serves. */
export class Partition implements PartitionLog {
  readonly id: number;
  readonly address: LogAddress;
  startOffset = 0;
  endOffset = 0;
  isKnown = false;
  /** All records below are done, excused, or owed to nobody. It never goes back. */
  watermark = 0;
  readonly #store: LogStore;
  readonly #tails: TailCache;
  readonly #tail: Tail;
  readonly #reader: Reader;
  readonly #missing: PartitionParts['missing'];
  readonly #sum: SumOfLogs;
  #isRemoved = false;
  /**
   * Most logs have at most one listener. With 100,000 logs a set for each would be a sixth of the
   * heap.
   */
  #listener: AppendListener | null = null;
  #moreListeners: Set<AppendListener> | null = null;

  constructor(topic: TopicRow, row: PartitionRow, { store, tails, reader, missing }: PartitionParts, sum: SumOfLogs) {
    this.id = row.id;
    this.address = { topicId: topic.id, topicName: topic.name, partition: row.partition, lane: 0 };
    this.#store = store;
    this.#tails = tails;
    this.#tail = tails.tailOf(this.address);
    this.#reader = reader;
    this.#sum = sum;
    this.#missing = missing;
  }

  cached(offset: number): EncodedBatch | null {
    // The tail may still have records of a dropped segment.
    if (offset < this.startOffset) return null;
    return this.#tail.find(offset) ?? this.#reader.cached(this.address, offset);
  }

  async fetch(offset: number): Promise<EncodedBatch | null> {
    if (offset >= this.endOffset) return null;
    if (offset < this.startOffset) throw this.#below(offset);
    try {
      return this.#tail.find(offset) ?? (await this.#reader.fetch(this.address, offset, !this.#isRemoved));
    } catch (error) {
      if (!(error instanceof BelowLogStart)) throw error;
      await this.#sum.refreshStarts();
      if (offset < this.startOffset) throw error;
      // A table is missing, and no drop has removed it. The reader asks again later.
      const fault = new Fault('DATABASE_UNAVAILABLE', `the database has no records at ${this.#named(offset)}`);
      this.#missing.failed(fault);
      throw fault;
    }
  }

  #below(offset: number): BelowLogStart {
    return new BelowLogStart(`the records at ${this.#named(offset)} are gone`);
  }

  #named(offset: number): string {
    return `offset ${offset} of partition ${this.address.partition} of topic "${this.address.topicName}"`;
  }

  async offsetAtTime(timeUs: number): Promise<number> {
    const { topicId, partition, lane } = this.address;
    const found = await this.#store.offsetAtTime(topicId, partition, lane, timeUs);
    return found === null ? this.endOffset : Math.max(found, this.startOffset);
  }

  addListener(listener: AppendListener): void {
    if (this.#listener === null) this.#listener = listener;
    else (this.#moreListeners ??= new Set()).add(listener);
  }

  removeListener(listener: AppendListener): void {
    if (this.#listener === listener) this.#listener = null;
    else this.#moreListeners?.delete(listener);
  }

  raiseWatermark(offset: number): void {
    if (offset <= this.watermark) return;
    this.#sum.watermarks += offset - this.watermark;
    this.watermark = offset;
  }

  /** Moves the end behind a committed batch. Its listeners are called later, by `announce`. */
  committed(batch: Parameters<TailCache['add']>[1], count: number, bytes: number): void {
    this.#end(batch.baseOffset + count);
    // A log without readers, or of a deleted topic, must not evict batches that are read.
    if (this.isKnown && this.#isHeard) this.#tails.add(this.#tail, batch, count, bytes);
  }

  /** Calls the listeners after the end has moved. */
  announce(): void {
    this.#listener?.appended();
    if (this.#moreListeners !== null) for (const listener of this.#moreListeners) listener.appended();
  }

  #end(endOffset: number): void {
    this.#sum.ends += endOffset - this.endOffset;
    this.endOffset = endOffset;
  }

  get #isHeard(): boolean {
    return this.#listener !== null || (this.#moreListeners !== null && this.#moreListeners.size > 0);
  }

  forget(): void {
    this.isKnown = false;
    this.#tail.clear();
  }

  /** The topic was removed. Its rows can be read for a while. */
  remove(): void {
    this.#isRemoved = true;
    this.forget();
    this.#reader.forget(this.address);
  }

  learn(end: Omit<LogEnd, 'segmentBaseOffset'>): void {
    const moved = end.endOffset !== this.endOffset;
    this.#end(end.endOffset);
    this.isKnown = true;
    this.trim(end.startOffset);
    if (moved) this.announce();
  }

  /**
   * Moves the start behind dropped records. A lower start is out of date, because it was read
   * before a drop that memory has seen.
   */
  trim(startOffset: number): void {
    if (startOffset <= this.startOffset) return;
    this.startOffset = startOffset;
    this.#reader.forget(this.address);
    this.#listener?.trimmed();
    if (this.#moreListeners !== null) for (const listener of this.#moreListeners) listener.trimmed();
  }
}
