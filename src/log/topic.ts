import { textBytes, weights } from '../account/weights.ts';
import { limits } from '../limits/limits.ts';
import type { DropReason } from '../retention/decision.ts';
import { Once } from '../time/once.ts';
import type { KeyMemory, KnownKeys } from './known-keys.ts';
import { placeInTopic } from './lanes.ts';
import { Partition, type PartitionParts, type SumOfLogs } from './partition.ts';
import type { LogEnd, PartitionRow, StoredStart, TopicRow } from './store.ts';

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

interface TopicParts extends PartitionParts {
  readonly keys: KeyMemory;
}

interface TopicOpening {
  readonly nowMs: number;
  /** Since when memory has all idempotency keys. */
  readonly keysCompleteSinceMs: number;
  /** Resolves when `opened` was called; null: nobody calls it. */
  readonly untilOpened: ((isUrgent: boolean) => Promise<void>) | null;
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
  /** Null once the ends of the logs have been read. */
  #untilOpened: TopicOpening['untilOpened'];
  readonly #refreshing = new Once<'ends' | 'starts', void>();
  #forgets = 0;
  readonly #parts: TopicParts;

  constructor(row: TopicRow, parts: TopicParts, { nowMs, keysCompleteSinceMs, untilOpened }: TopicOpening) {
    const { segment, liveSubscriptions, segmentAgeMs, segmentBytes, segmentCount, sealedBytes } = row;
    this.row = row;
    this.segment = segment;
    this.live = liveSubscriptions;
    this.segmentBeganMs = nowMs - segmentAgeMs;
    this.segmentBytes = this.savedBytes = segmentBytes;
    this.segmentCount = segmentCount;
    this.sealedBytes = sealedBytes;
    this.#parts = parts;
    this.#untilOpened = untilOpened;
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

  /** Whether the ends of the logs have ever been read. */
  get isOpen(): boolean {
    return this.#untilOpened === null;
  }

  /**
   * Resolves when the ends of the logs have been read once.
   * @param isUrgent a call waits for them.
   * @throws Fault
   */
  async untilOpen(isUrgent = true): Promise<void> {
    await this.#untilOpened?.(isUrgent);
  }

  /** Takes the ends of the logs as they were before this broker appended. */
  opened(ends: readonly LogEnd[]): void {
    // By now the logs may have had appends.
    if (this.#untilOpened === null) return;
    this.#untilOpened = null;
    if (!this.removed) this.#learn(ends);
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
    if (!this.isOpen) return this.untilOpen();
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
    this.#learn(ends);
  }

  /** Takes the ends of logs that are not known. */
  #learn(ends: readonly LogEnd[]): void {
    for (const end of ends) {
      const partition = this.partitions[placeInTopic(this.lanes, end)];
      // A known end is newer, because appends to such a log went on during the read.
      if (partition?.isKnown === false) partition.learn(end);
      if (end.endOffset > end.segmentBaseOffset) this.hasData = true;
    }
  }
}
