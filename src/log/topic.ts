import { textBytes, weights } from '../account/weights.ts';
import { Once } from '../time/once.ts';
import type { BatchCodec, EncodedBatch, LogAddress } from './batch.ts';
import type { KeyMemory, KnownKeys } from './known-keys.ts';
import { placeInTopic } from './lanes.ts';
import type { AppendListener, PartitionLog } from './partition-log.ts';
import type { Reader } from './reader.ts';
import type { LogEnd, LogStore, PartitionRow, TopicRow } from './store.ts';
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

interface TopicParts {
  readonly store: LogStore;
  readonly codec: BatchCodec;
  readonly tails: TailCache;
  readonly reader: Reader;
  readonly keys: KeyMemory;
}

/**
 * A topic that the broker serves: its partitions, its cached idempotency keys, and its current
 * segment.
 */
export class Topic {
  row: TopicRow;
  segment: number;
  readonly keys: KnownKeys;
  /** Logs of each partition. No topic has more than one yet, but all code must ask here. */
  readonly lanes: number = 1;
  /** Replaced when the topic grows, so that a caller's list does not change during its work. */
  partitions: readonly Partition[];
  /** Counts the requests with keyless records, which take the partitions in turn. */
  turn = 0;
  removed = false;
  /** Bytes of the current segment when it was last measured. */
  segmentBytes = 0;
  /** Uncompressed bytes appended since the measurement. */
  appendedBytes = 0;
  /** Whether the next segment is known to exist. */
  nextIsMade = false;
  readonly #refreshing = new Once<'ends', void>();
  #forgets = 0;
  readonly #parts: TopicParts;

  constructor(row: TopicRow, parts: TopicParts, keysCompleteSinceMs: number) {
    this.row = row;
    this.segment = row.segment;
    this.#parts = parts;
    this.keys = parts.keys.ofTopic(keysCompleteSinceMs);
    this.partitions = row.partitions.map((partition) => new Partition(row, partition, parts));
  }

  /** Whether the end of every log is known. */
  get isKnown(): boolean {
    return this.partitions.every((partition) => partition.isKnown);
  }

  /**
   * Adds new partitions. Other fields of the row stay, because the rows may be older than this one.
   */
  grow(rows: readonly PartitionRow[]): void {
    const added = rows.slice(this.partitions.length).map((row) => new Partition(this.row, row, this.#parts));
    if (added.length === 0) return;
    // They are empty, because only this broker appends and it did not know them.
    for (const partition of added) partition.learn({ ...partition.address, startOffset: 0, endOffset: 0 });
    this.partitions = [...this.partitions, ...added];
    this.row = { ...this.row, partitions: rows };
  }

  /** Reads the start and end of all logs. Concurrent calls share one read. @throws Fault */
  refresh(): Promise<void> {
    return this.#refreshing.run('ends', () => this.#refresh());
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

  async #refresh(): Promise<void> {
    let ends: LogEnd[];
    let forgets: number;
    do {
      forgets = this.#forgets;
      ends = await this.#parts.store.ends(this.row.id);
      // An append that was forgotten during the read may lie behind the ends that it returned.
    } while (forgets !== this.#forgets);
    for (const end of ends) {
      const partition = this.partitions[placeInTopic(this.lanes, end)];
      // A known end is newer, because appends to such a log went on during the read.
      if (partition?.isKnown === false) partition.learn(end);
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
  readonly #store: LogStore;
  readonly #tails: TailCache;
  readonly #tail: Tail;
  readonly #reader: Reader;
  #isRemoved = false;
  /**
   * Most logs have at most one listener. With 100,000 logs a set for each would be a sixth of the
   * heap.
   */
  #listener: AppendListener | null = null;
  #moreListeners: Set<AppendListener> | null = null;

  constructor(topic: TopicRow, row: PartitionRow, { store, tails, reader }: TopicParts) {
    this.id = row.id;
    this.address = { topicId: topic.id, topicName: topic.name, partition: row.partition, lane: 0 };
    this.#store = store;
    this.#tails = tails;
    this.#tail = tails.tailOf(this.address);
    this.#reader = reader;
  }

  cached(offset: number): EncodedBatch | null {
    return this.#tail.find(offset) ?? this.#reader.cached(this.address, offset);
  }

  async fetch(offset: number): Promise<EncodedBatch | null> {
    if (offset >= this.endOffset) return null;
    return this.#tail.find(offset) ?? this.#reader.fetch(this.address, offset, !this.#isRemoved);
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

  /** Moves the end behind a committed batch. Its listeners are called later, by `announce`. */
  committed(batch: Parameters<TailCache['add']>[1], count: number, bytes: number): void {
    this.endOffset = batch.baseOffset + count;
    // A log without readers, or of a deleted topic, must not evict batches that are read.
    if (this.isKnown && this.#isHeard) this.#tails.add(this.#tail, batch, count, bytes);
  }

  /** Calls the listeners after the end has moved. */
  announce(): void {
    this.#listener?.appended();
    if (this.#moreListeners !== null) for (const listener of this.#moreListeners) listener.appended();
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

  learn(end: LogEnd): void {
    const moved = end.endOffset !== this.endOffset;
    this.startOffset = end.startOffset;
    this.endOffset = end.endOffset;
    this.isKnown = true;
    if (moved) this.announce();
  }
}
