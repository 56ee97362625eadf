import { textBytes, weights } from '../account/weights.ts';
import { Fault } from '../errors/fault.ts';
import type { Trouble } from '../errors/trouble.ts';
import { limits } from '../limits/limits.ts';
import type { DropReason } from '../retention/decision.ts';
import { Once } from '../time/once.ts';
import type { BatchCodec, EncodedBatch, LogAddress } from './batch.ts';
import type { KeyMemory, KnownKeys } from './known-keys.ts';
import { placeInTopic } from './lanes.ts';
import type { AppendListener, PartitionLog } from './partition-log.ts';
import type { Reader } from './reader.ts';
import {
  BelowLogStart,
  type LogEnd,
  type LogStore,
  type PartitionRow,
  type StoredStart,
  type TopicRow,
} from './store.ts';
import type { Tail, TailCache } from './tail-cache.ts';

/** What a topic weighs by. */
interface TopicSize {
  readonly name: string;
  readonly description: string;
  readonly partitions: number;
}

/** What the account counts for a topic. */
export function topicBytes({ name, description, partitions }: TopicSize): number {
  return weights.topic + textBytes(name) + textBytes(description) + partitions * weights.partitionLog;
}

interface TopicTimes {
  readonly nowMs: number;
  /** Since when memory has all idempotency keys. */
  readonly keysCompleteSinceMs: number;
}

interface TopicParts {
  /** Notes records that the database should have. */
  readonly missing: Pick<Trouble, 'failed'>;
  readonly store: LogStore;
  readonly codec: BatchCodec;
  readonly tails: TailCache;
  readonly reader: Reader;
  readonly keys: KeyMemory;
}

/** A topic in numbers. */
export interface TopicNumbers {
  readonly id: number;
  readonly name: string;
  /** Since it was made. */
  readonly appendedRecords: number;
  /** The records of all logs from their watermarks on. */
  readonly watermarkLag: number;
  readonly segments: number;
  /** Those of the current segment as of its last measurement, and what was appended since. */
  readonly storedBytes: number;
  /** Segments that went since the start of this owner. */
  readonly drops: ReadonlyMap<DropReason, number>;
}

const noDrops: TopicNumbers['drops'] = new Map();

/** What a log needs of its topic, to which it adds its own changes. */
interface SumOfLogs {
  /** The sum of the ends of all logs. */
  ends: number;
  /** The sum of their watermarks. */
  watermarks: number;
  /** Reads the starts of the logs again, because a read has met records that are gone. */
  refreshStarts(): Promise<void>;
}

/**
 * A topic that the broker serves: its partitions, its cached idempotency keys, and its current
 * segment.
 */
export class Topic implements SumOfLogs {
  row: TopicRow;
  segment: number;
  readonly keys: KnownKeys;
  /** Logs of each partition. No topic has more than one yet, but all code must ask here. */
  readonly lanes: number = 1;
  /** Replaced when the topic grows, so that a caller's list does not change during its work. */
  partitions: readonly Partition[];
  ends = 0;
  watermarks = 0;
  /** Segments that went, by reason. Most topics have none. */
  #drops: Map<DropReason, number> | null = null;
  /** Counts the requests with keyless records, which take the partitions in turn. */
  turn = 0;
  removed = false;
  /** The number of ACTIVE and PAUSED subscriptions. */
  live: number;
  /** When the current segment became the current one, by the clock of this process. */
  segmentBeganMs: number;
  /** Whether the current segment has records. It is not sealed without. */
  hasData = false;
  /** Bytes of the current segment when it was last measured. */
  segmentBytes: number;
  /** The bytes of it that the database has stored. */
  savedBytes: number;
  /** The number of segments, with the current one, and the bytes of those before it. */
  segmentCount: number;
  sealedBytes: number;
  /** Uncompressed bytes appended since the measurement. */
  appendedBytes = 0;
  /** Whether the next segment is known to exist. */
  nextIsMade = false;
  /** The next segment is wanted, and its table could not be made yet. */
  wantsNext = false;
  readonly #refreshing = new Once<'ends' | 'starts', void>();
  #forgets = 0;
  readonly #parts: TopicParts;

  constructor(row: TopicRow, parts: TopicParts, { nowMs, keysCompleteSinceMs }: TopicTimes) {
    const { segment, liveSubscriptions, segmentAgeMs, segmentBytes, segmentCount, sealedBytes } = row;
    this.row = row;
    this.segment = segment;
    this.live = liveSubscriptions;
    this.segmentBeganMs = nowMs - segmentAgeMs;
    this.segmentBytes = this.savedBytes = segmentBytes;
    this.segmentCount = segmentCount;
    this.sealedBytes = sealedBytes;
    this.#parts = parts;
    this.keys = parts.keys.ofTopic(keysCompleteSinceMs);
    this.partitions = row.partitions.map((partition) => this.#partition(partition));
  }

  /** Moves the starts of logs behind dropped records, step by step. */
  *trim(starts: Iterable<StoredStart>): Generator<undefined, void> {
    let atOnce = 0;
    for (const start of starts) {
      this.partitions[placeInTopic(this.lanes, start)]?.trim(start.startOffset);
      if (++atOnce % limits.entriesAtOnceMax === 0) yield;
    }
  }

  /** Whether the end of every log is known. */
  get isKnown(): boolean {
    return this.partitions.every((partition) => partition.isKnown);
  }

  /**
   * Adds new partitions. Other fields of the row stay, because the rows may be older than this one.
   */
  grow(rows: readonly PartitionRow[]): void {
    const added = rows.slice(this.partitions.length).map((row) => this.#partition(row));
    if (added.length === 0) return;
    // They are empty, because only this broker appends and it did not know them.
    for (const partition of added) {
      partition.learn({ ...partition.address, startOffset: 0, endOffset: 0 });
    }
    this.partitions = [...this.partitions, ...added];
    this.row = { ...this.row, partitions: rows };
  }

  /** Reads the start and end of all logs. Concurrent calls share one read. @throws Fault */
  refresh(): Promise<void> {
    return this.#refreshing.run('ends', () => this.#refresh());
  }

  refreshStarts(): Promise<void> {
    return this.#refreshing.run('starts', async () => {
      for (const start of await this.#parts.store.starts(this.row.id)) {
        this.partitions[placeInTopic(this.lanes, start)]?.trim(start.startOffset);
      }
    });
  }

  /** Forgets the ends of the partitions and all keys, because an append has an unknown outcome. */
  forget(partitions: Iterable<Partition>, nowMs: number): void {
    this.#forgets++;
    for (const partition of partitions) partition.forget();
    this.keys.forget(nowMs);
  }

  /**
   * Learns the current segment. The store rolls nothing, because it is asked to roll an older one.
   * @throws Fault
   */
  async followSegment(): Promise<void> {
    this.segment = await this.#parts.store.rollSegment(this.row.id, this.segment - 1);
  }

  /** A new segment begins. `bytes`: those of the one before. */
  began(segment: number, bytes: number, nowMs: number): void {
    if (segment !== this.segment) {
      this.segmentCount += 1;
      this.sealedBytes += bytes;
    }
    this.segment = segment;
    this.segmentBeganMs = nowMs;
    this.segmentBytes = this.savedBytes = 0;
    this.hasData = false;
    this.nextIsMade = false;
  }

  /** Takes what a look at the database has found, unless another segment is current by now. */
  stored(current: number, sealed: readonly { readonly bytes: number }[]): void {
    if (current !== this.segment) return;
    this.segmentCount = sealed.length + 1;
    this.sealedBytes = sealed.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Counts a segment that went. */
  dropped(reason: DropReason): void {
    this.#drops ??= new Map();
    this.#drops.set(reason, (this.#drops.get(reason) ?? 0) + 1);
  }

  numbers(): TopicNumbers {
    const { row, ends, segmentCount, sealedBytes, segmentBytes, appendedBytes } = this;
    return {
      id: row.id,
      name: row.name,
      appendedRecords: ends,
      watermarkLag: Math.max(0, ends - this.watermarks),
      segments: segmentCount,
      storedBytes: sealedBytes + segmentBytes + appendedBytes,
      drops: this.#drops ?? noDrops,
    };
  }

  #partition(row: PartitionRow): Partition {
    return new Partition(this.row, row, this.#parts, this);
  }

  async #refresh(): Promise<void> {
    let ends: LogEnd[];
    let forgets: number;
    do {
      forgets = this.#forgets;
      ends = await this.#parts.store.ends(this.row.id);
      // An append that was forgotten during the read may lie behind the ends that it returned.
    } while (forgets !== this.#forgets);
    this.learn(ends);
  }

  /** Takes the ends of logs that are not known. */
  learn(ends: readonly LogEnd[]): void {
    for (const end of ends) {
      const partition = this.partitions[placeInTopic(this.lanes, end)];
      // A known end is newer, because appends to such a log went on during the read.
      if (partition?.isKnown === false) partition.learn(end);
      if (end.endOffset > end.segmentBaseOffset) this.hasData = true;
    }
  }
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
  readonly #missing: TopicParts['missing'];
  readonly #sum: SumOfLogs;
  #isRemoved = false;
  /**
   * Most logs have at most one listener. With 100,000 logs a set for each would be a sixth of the
   * heap.
   */
  #listener: AppendListener | null = null;
  #moreListeners: Set<AppendListener> | null = null;

  constructor(topic: TopicRow, row: PartitionRow, { store, tails, reader, missing }: TopicParts, sum: SumOfLogs) {
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
