import type { Cursor } from '../../consumption/partitioned/cursor.ts';
import { endOffset, type EncodedBatch } from '../../log/batch.ts';
import type { AppendListener, PartitionLog } from '../../log/partition-log.ts';
import type { Clock } from '../../time/clock.ts';
import type { FeedMemory } from './feed-memory.ts';
import type { PartitionStatus, TopicPartition } from '../ports/session.ts';
import type { CursorKey } from '../ports/store.ts';
import type { Seat } from './seat.ts';

/** How long a failed read of older batches waits before it is tried again. */
const readRetryMs = 500;

/** What all feeds share. */
export interface FeedParts {
  readonly clock: Clock;
  readonly memory: FeedMemory;
}

/**
 * A log as one subscription consumes it: the cursor, and the batches that it is delivered from. Its
 * seat is with the member that holds the log.
 */
export class Feed implements AppendListener {
  readonly key: CursorKey;
  /** What clients are told of where it is. */
  readonly place: TopicPartition;
  readonly cursor: Cursor;
  readonly log: PartitionLog;
  readonly #clock: Clock;
  readonly #memory: FeedMemory;
  #seat: Seat | null = null;
  /** A batch from the database: it serves this cursor even if the log's caches have dropped it. */
  #kept: EncodedBatch | null = null;
  #fetching = false;
  #cancelRetry: (() => void) | null = null;
  #closed = false;
  /** When the last ack round began in which the cursor moved. */
  #lastRoundMs = -Infinity;

  constructor(key: CursorKey, cursor: Cursor, log: PartitionLog, { clock, memory }: FeedParts) {
    this.key = key;
    this.place = { topic: log.address.topicName, partition: key.partition };
    this.cursor = cursor;
    this.log = log;
    this.#clock = clock;
    this.#memory = memory;
    log.addListener(this);
  }

  get topic(): string {
    return this.log.address.topicName;
  }

  /** Where the log stands in the queue of the member that holds it; null: no member does. */
  get seat(): Seat | null {
    return this.#seat;
  }

  /** A member holds the log from now on. */
  taken(seat: Seat): void {
    this.#seat = seat;
  }

  /** The member of the seat holds the log no longer. */
  left(): void {
    this.#seat = null;
    this.#drop();
  }

  /** The log has more records. */
  appended(): void {
    this.#seat?.wake();
  }

  /** The batch that contains `offset`; null while it is being read, and the seat is woken after that. */
  batchAt(offset: number): EncodedBatch | null {
    const kept = this.#kept;
    if (kept !== null && offset >= kept.baseOffset && offset < endOffset(kept)) {
      this.#memory.used(this);
      return kept;
    }
    this.#drop();
    const cached = this.log.cached(offset);
    if (cached === null && !this.#fetching) void this.#fetch(offset);
    return cached;
  }

  /** Records of a batch up to `last` have gone out. What is sent again some day is read again. */
  delivered(batch: EncodedBatch, last: number): void {
    if (batch === this.#kept && last === endOffset(batch) - 1) this.#drop();
  }

  /** Room is wanted for what others read: the batch is read again when it is needed. */
  evict(): void {
    this.#kept = null;
  }

  /** An ack round begins in which the cursor has moved. @returns how long after the last one. */
  roundBegins(nowMs: number): number {
    const sinceMs = nowMs - this.#lastRoundMs;
    this.#lastRoundMs = nowMs;
    return sinceMs;
  }

  status(): PartitionStatus {
    return {
      topic: this.topic,
      partition: this.key.partition,
      lane: this.key.lane,
      committedOffset: this.cursor.durableOffset,
      highWatermark: this.log.endOffset,
      lag: this.cursor.lag(this.log.endOffset),
      blockedOn: this.#seat?.blockedOn ?? 'NO_ASSIGNMENT',
      memberId: this.#seat?.member.id ?? null,
      inFlightRecords: this.cursor.inFlightRecords,
      oldestUnackedAgeMs: null,
    };
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
    this.#drop();
    this.#seat?.close();
    this.log.removeListener(this);
  }

  async #fetch(offset: number): Promise<void> {
    this.#fetching = true;
    try {
      const batch = await this.log.fetch(offset);
      this.#fetching = false;
      if (this.#closed) return;
      if (batch !== null) this.#keep(batch);
      this.#seat?.wake();
    } catch {
      // The database is away. `#fetching` stays set meanwhile, so that a busy pump does not ask again at every turn.
      if (this.#closed) return;
      this.#cancelRetry = this.#clock.after(readRetryMs, () => {
        this.#fetching = false;
        this.#seat?.wake();
      });
    }
  }

  /** Nobody reads it any more: a next holder reads by itself, from wherever it begins. */
  #keep(batch: EncodedBatch): void {
    if (this.#seat === null) return;
    this.#kept = batch;
    this.#memory.keep(this, batch.bytes.length + batch.recordEnds.byteLength);
  }

  #drop(): void {
    if (this.#kept === null) return;
    this.#kept = null;
    this.#memory.drop(this);
  }
}
