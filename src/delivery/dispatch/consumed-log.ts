import type { Cursor } from '../../consumption/partitioned/cursor.ts';
import { endOffset, type EncodedBatch } from '../../log/batch.ts';
import type { AppendListener, PartitionLog } from '../../log/partition-log.ts';
import type { Clock } from '../../time/clock.ts';
import type { Member } from './member.ts';
import type { BlockedOn, PartitionStatus, TopicPartition } from '../ports/session.ts';
import type { CursorKey } from '../ports/store.ts';

/** How long a failed read of older batches waits before it is tried again. */
const readRetryMs = 500;

/** A log as one group consumes it: the pure cursor, the member that holds it, and what is being read for it. */
export class ConsumedLog implements AppendListener {
  readonly key: CursorKey;
  /** What clients are told of where it is. */
  readonly place: TopicPartition;
  readonly cursor: Cursor;
  readonly log: PartitionLog;
  holder: Member | null = null;
  /** Its place among the logs of its holder. */
  heldAt = 0;
  /** Set while the partition is moving away and nothing new is delivered: until when, by the wall clock. */
  revokeDeadlineAtMs: number | null = null;
  /** Since when the next batch has been waiting for credit; null if it is not. */
  creditWaitSinceMs: number | null = null;
  /** Cancels the timer of the earliest lease; null while none is set. */
  leaseTimer: (() => void) | null = null;
  /** When the last ack round began in which it moved. */
  lastRoundMs = -Infinity;
  /** Why the last look found nothing to deliver. */
  blockedOn: BlockedOn = 'CAUGHT_UP';
  /** Where it is among the logs of its holder, which `ReadyLogs` alone decides: it waits for this; null: it is ready. */
  waitsFor: BlockedOn | null = null;
  turnBefore: ConsumedLog | null = null;
  turnAfter: ConsumedLog | null = null;

  readonly #clock: Clock;
  #fetched: EncodedBatch | null = null;
  #fetching = false;
  #closed = false;

  constructor(key: CursorKey, cursor: Cursor, log: PartitionLog, clock: Clock) {
    this.key = key;
    this.place = { topic: log.address.topicName, partition: key.partition };
    this.cursor = cursor;
    this.log = log;
    this.#clock = clock;
    log.addListener(this);
  }

  /** The log has more records. */
  appended(): void {
    this.holder?.wakeFor(this);
  }

  get revoking(): boolean {
    return this.revokeDeadlineAtMs !== null;
  }

  get topic(): string {
    return this.log.address.topicName;
  }

  /**
   * The batch that contains `offset`: from memory, or else null while it is being read; the holder is woken when it
   * has come. A fetched batch is kept here, so that it serves this cursor even if the cache has let go of it.
   */
  batchAt(offset: number): EncodedBatch | null {
    const held = this.#fetched;
    if (held !== null && offset >= held.baseOffset && offset < endOffset(held)) return held;
    this.#fetched = null;
    const cached = this.log.cached(offset);
    if (cached === null && !this.#fetching) void this.#fetch(offset);
    return cached;
  }

  status(): PartitionStatus {
    return {
      topic: this.topic,
      partition: this.key.partition,
      lane: this.key.lane,
      committedOffset: this.cursor.durableOffset,
      highWatermark: this.log.endOffset,
      lag: this.cursor.lag(this.log.endOffset),
      blockedOn: this.revoking ? 'REVOKING' : this.holder === null ? 'NO_ASSIGNMENT' : this.blockedOn,
      memberId: this.holder?.id ?? null,
      inFlightRecords: this.cursor.inFlightRecords,
      oldestUnackedAgeMs: null,
    };
  }

  close(): void {
    this.#closed = true;
    this.#fetched = null;
    this.leaseTimer?.();
    this.log.removeListener(this);
  }

  async #fetch(offset: number): Promise<void> {
    this.#fetching = true;
    try {
      this.#fetched = await this.log.fetch(offset);
      this.#fetching = false;
      if (!this.#closed) this.holder?.wakeFor(this);
    } catch {
      // The database is away. `#fetching` stays set meanwhile, so that a busy pump does not ask again at every turn.
      this.#clock.after(readRetryMs, () => {
        this.#fetching = false;
        if (!this.#closed) this.holder?.wakeFor(this);
      });
    }
  }
}
