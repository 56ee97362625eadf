import type { BatchCodec, EncodedBatch, LogAddress } from './batch.ts';
import { KnownKeys } from './known-keys.ts';
import { placeInTopic } from './lanes.ts';
import type { AppendListener, PartitionLog } from './partition-log.ts';
import type { Reader } from './reader.ts';
import type { LogEnd, LogStore, PartitionRow, TopicRow } from './store.ts';
import type { Tail, TailCache } from './tail-cache.ts';

/** Keys that a topic keeps in memory; older ones are asked for in the database. */
const knownKeysMax = 100_000;

export interface TopicParts {
  readonly store: LogStore;
  readonly codec: BatchCodec;
  readonly tails: TailCache;
  readonly reader: Reader;
}

/** A topic at work: its partitions, what is known of its idempotency keys, and the segment that appends go to. */
export class Topic {
  row: TopicRow;
  segment: number;
  readonly keys: KnownKeys;
  /** How many logs each partition has. Everybody asks here: there are none with more than one yet. */
  readonly lanes: number = 1;
  /** Another list when the topic grows: who holds one sees no other number of partitions in the middle of its work. */
  partitions: readonly Partition[];
  /** The partition that the next request without a key goes to. */
  turn = 0;
  removed = false;
  /** Bytes of the current segment: as they were measured, and appended since. */
  segmentBytes = 0;
  appendedBytes = 0;
  /** Whether the segment after the current one is known to be made. */
  nextIsMade = false;
  #refreshing: Promise<void> | null = null;
  #forgets = 0;
  readonly #parts: TopicParts;

  constructor(row: TopicRow, parts: TopicParts, keysCompleteSinceMs: number) {
    this.row = row;
    this.segment = row.segment;
    this.#parts = parts;
    this.keys = new KnownKeys(knownKeysMax, keysCompleteSinceMs);
    this.partitions = row.partitions.map((partition) => new Partition(row, partition, parts));
  }

  /** Whether the ends of all logs are known. */
  get isKnown(): boolean {
    return this.partitions.every((partition) => partition.isKnown);
  }

  /** Takes in partitions that were added. The rest of the row stays: what was read with them may be older than what is here. */
  grow(rows: readonly PartitionRow[]): void {
    const added = rows.slice(this.partitions.length).map((row) => new Partition(this.row, row, this.#parts));
    if (added.length === 0) return;
    // Nobody has appended to them: this broker alone could, and has not known them.
    for (const partition of added) partition.learn({ ...partition.address, startOffset: 0, endOffset: 0 });
    this.partitions = [...this.partitions, ...added];
    this.row = { ...this.row, partitions: rows };
  }

  /** Reads where the logs begin and end, once for all who ask. @throws Fault */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  /** What was appended last is not known: neither the ends nor the keys. */
  forget(partitions: Iterable<Partition>, nowMs: number): void {
    this.#forgets++;
    for (const partition of partitions) partition.forget();
    this.keys.forget(nowMs);
  }

  /** Learns which segment appends go to: it is not the one that they went to. @throws Fault */
  async followSegment(): Promise<void> {
    this.segment = await this.#parts.store.rollSegment(this.row.id, this.segment - 1);
  }

  async #refresh(): Promise<void> {
    let ends: LogEnd[];
    let forgets: number;
    do {
      forgets = this.#forgets;
      ends = await this.#parts.store.ends(this.row.id);
      // What was forgotten meanwhile may have been appended behind what was read.
    } while (forgets !== this.#forgets);
    for (const end of ends) {
      const partition = this.partitions[placeInTopic(this.lanes, end)];
      // Appends to a log whose end is known go on: what was read of it may be older than what was committed since.
      if (partition?.isKnown === false) partition.learn(end);
    }
  }
}

/** One log at work. */
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
  /** Most logs have one listener at most; a set for each would be a sixth of the heap of a broker with 100,000. */
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
    return this.#tail.find(offset) ?? this.#reader.fetch(this.address, offset);
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

  /** A batch was committed. Nobody is told yet. */
  committed(batch: Parameters<TailCache['add']>[1], count: number, bytes: number): void {
    this.endOffset = batch.baseOffset + count;
    // Without a reader, or after the topic went, it would only take the place of what somebody reads.
    if (this.isKnown && this.#isHeard) this.#tails.add(this.#tail, batch, count, bytes);
  }

  /** The end has moved. */
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

  learn(end: LogEnd): void {
    const moved = end.endOffset !== this.endOffset;
    this.startOffset = end.startOffset;
    this.endOffset = end.endOffset;
    this.isKnown = true;
    if (moved) this.announce();
  }
}
