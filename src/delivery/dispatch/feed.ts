import type { Cursor } from '../../consumption/partitioned/cursor.ts';
import { endOffset, type EncodedBatch } from '../../log/batch.ts';
import type { AppendListener, PartitionLog } from '../../log/partition-log.ts';
import type { Clock } from '../../time/clock.ts';
import type { FeedMemory } from './feed-memory.ts';
import type { PartitionStatus, TopicPartition } from '../ports/session.ts';
import type { CursorKey } from '../ports/store.ts';
import type { Seat } from './seat.ts';

/** The wait before a failed read of a batch is repeated. */
const readRetryMs = 500;

export interface FeedParts {
  readonly clock: Clock;
  readonly memory: FeedMemory;
}

/**
 * A log as one subscription consumes it: the cursor, and the batches to deliver. Its seat connects
 * it with the member that holds the log.
 */
export class Feed implements AppendListener {
  readonly key: CursorKey;
  /** The partition as events name it. All events share this object. */
  readonly place: TopicPartition;
  readonly cursor: Cursor;
  readonly log: PartitionLog;
  readonly #clock: Clock;
  readonly #memory: FeedMemory;
  #seat: Seat | null = null;
  /**
   * A batch from the database, kept for this cursor even if the caches of the log have dropped it.
   */
  #kept: EncodedBatch | null = null;
  #fetching = false;
  #cancelRetry: (() => void) | null = null;
  #closed = false;
  /** The begin of the last ack round in which the cursor moved. */
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

  /** The seat of the log with the member that holds it; null without a holder. */
  get seat(): Seat | null {
    return this.#seat;
  }

  /** Gives the log to the member of the seat. */
  taken(seat: Seat): void {
    this.#seat = seat;
  }

  /** Takes the log from the member of the seat. */
  left(): void {
    this.#seat = null;
    this.#drop();
  }

  appended(): void {
    this.#seat?.wake();
  }

  /** The batch that contains `offset`; null while the database is read, which wakes the seat. */
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

  /**
   * Drops the kept batch after its last record has gone out. A repeated delivery reads it again.
   */
  delivered(batch: EncodedBatch, last: number): void {
    if (batch === this.#kept && last === endOffset(batch) - 1) this.#drop();
  }

  /** Drops the kept batch, because the memory of all feeds is full. */
  evict(): void {
    this.#kept = null;
  }

  /** Notes an ack round with this cursor. @returns the time since the last such round. */
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
      // The database does not answer. `#fetching` stays set, so that a busy pump does not ask all
      // the time.
      if (this.#closed) return;
      this.#cancelRetry = this.#clock.after(readRetryMs, () => {
        this.#fetching = false;
        this.#seat?.wake();
      });
    }
  }

  /** Does nothing without a holder, because the next one may begin at another offset. */
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
