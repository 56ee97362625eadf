import { weights } from '../../account/weights.ts';
import type { Cursor, Freed } from '../../consumption/partitioned/cursor.ts';
import type { MemberId } from '../../coordinator/group.ts';
import type { Consumption } from '../../metrics/consumption.ts';
import { batchBytes, endOffset, type EncodedBatch } from '../../log/batch.ts';
import type { AppendListener, PartitionLog } from '../../log/partition-log.ts';
import type { Clock } from '../../time/clock.ts';
import { recounted, type Kept } from '../kept/kept.ts';
import { noteBytes } from '../kept/sizes.ts';
import type { FeedMemory } from './feed-memory.ts';
import type { BlockedOn, PartitionStatus, TopicPartition } from '../ports/session.ts';
import type { CursorKey } from '../ports/store.ts';

/** The wait before a failed read of a batch is repeated. */
const readRetryMs = 500;

export interface FeedParts {
  readonly clock: Clock;
  readonly memory: FeedMemory;
  /** What clients make the broker keep. */
  readonly kept: Kept;
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
  readonly #account: Kept;
  #seat: Seat | null = null;
  /**
   * A batch from the database, kept for this cursor even if the caches of the log have dropped it.
   */
  #kept: EncodedBatch | null = null;
  #fetching = false;
  #cancelRetry: (() => void) | null = null;
  #closed = false;
  /**
   * Bytes that the account counts for the deliveries, the acked runs, the attempts and the note of
   * the cursor.
   */
  #deliveryBytes = 0;
  #holeBytes = 0;
  #attemptBytes = 0;
  #noteBytes = 0;
  /** What the sums of the subscription have of this log. */
  readonly #consumption: Consumption;
  #completedRecords = 0;
  #inFlightRecords = 0;
  /** The begin of the last ack round in which the cursor moved. */
  #lastRoundMs = -Infinity;

  constructor(key: CursorKey, cursor: Cursor, log: PartitionLog, parts: FeedParts, consumption: Consumption) {
    const { clock, memory, kept } = parts;
    this.key = key;
    this.place = { topic: log.address.topicName, partition: key.partition };
    this.cursor = cursor;
    this.log = log;
    this.#clock = clock;
    this.#memory = memory;
    this.#account = kept;
    this.#consumption = consumption;
    log.addListener(this);
    this.begun();
    this.recountNote();
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
    if (this.#seat === null && !this.#closed) this.#account.cursors.force(weights.heldCursor);
    this.#seat = seat;
  }

  /** Takes the log from the member of the seat. */
  left(): void {
    if (this.#seat !== null && !this.#closed) this.#account.cursors.give(weights.heldCursor);
    this.#seat = null;
    this.#drop();
  }

  appended(): void {
    this.#seat?.wake();
  }

  trimmed(): void {
    // Nothing drops records yet.
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
   * Follows a delivery. Drops the kept batch after its last record has gone out: a repeated
   * delivery reads it again.
   */
  delivered(batch: EncodedBatch, first: number, last: number): void {
    this.#consumption.deliveredRecords += last - first + 1;
    this.recount();
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

  /** Counts the log from a new begin of its cursor, which acks nothing. */
  begun(): void {
    const { completedRecords } = this.cursor;
    this.#consumption.completedRecords += completedRecords - this.#completedRecords;
    this.#completedRecords = completedRecords;
    this.recount();
  }

  /** Counts the deliveries, acked runs and attempts of the cursor, after a change of them. */
  recount(): void {
    if (this.#closed) return;
    this.#sum();
    const deliveryBytes = deliveryBytesOf(this.cursor);
    if (deliveryBytes !== this.#deliveryBytes) {
      this.#deliveryBytes = recounted(this.#account.deliveries, this.#deliveryBytes, deliveryBytes);
    }
    const holeBytes = this.cursor.holes * weights.hole;
    if (holeBytes !== this.#holeBytes) {
      this.#holeBytes = recounted(this.#account.holes, this.#holeBytes, holeBytes);
    }
    const attemptBytes = this.cursor.attemptRuns * weights.attemptRun;
    if (attemptBytes !== this.#attemptBytes) {
      this.#attemptBytes = recounted(this.#account.attempts, this.#attemptBytes, attemptBytes);
    }
  }

  /** Whether acks of so many runs ahead of the committed offset, or within attempts, have room. */
  hasRoomForHoles(runs: number): boolean {
    const { holes, attempts } = this.#account;
    if (runs * weights.hole > holes.room) return false;
    return !this.cursor.hasAttempts || runs * weights.attemptRun <= attempts.room;
  }

  /** The bytes that the account counts for the note of the cursor. */
  get noteBytes(): number {
    return this.#noteBytes;
  }

  /** Counts the note of the cursor, after a change of it. */
  recountNote(): void {
    if (this.#closed) return;
    this.#noteBytes = recounted(this.#account.notes, this.#noteBytes, noteBytes(this.cursor.metadata));
  }

  close(): void {
    if (this.#closed) return;
    this.#giveBack();
    this.#closed = true;
    this.#cancelRetry?.();
    this.#drop();
    this.#seat?.close();
    this.log.removeListener(this);
  }

  #sum(): void {
    const { completedRecords, inFlightRecords } = this.cursor;
    if (completedRecords !== this.#completedRecords) {
      const acked = completedRecords - this.#completedRecords;
      this.#consumption.completedRecords += acked;
      this.#consumption.ackedRecords += acked;
      this.#completedRecords = completedRecords;
    }
    if (inFlightRecords !== this.#inFlightRecords) {
      this.#consumption.inFlightRecords += inFlightRecords - this.#inFlightRecords;
      this.#inFlightRecords = inFlightRecords;
    }
  }

  #giveBack(): void {
    const { cursors, deliveries, holes, attempts, notes } = this.#account;
    deliveries.give(this.#deliveryBytes);
    if (this.#seat !== null) cursors.give(weights.heldCursor);
    holes.give(this.#holeBytes);
    attempts.give(this.#attemptBytes);
    notes.give(this.#noteBytes);
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
    this.#memory.keep(this, batchBytes(batch));
  }

  #drop(): void {
    if (this.#kept === null) return;
    this.#kept = null;
    this.#memory.drop(this);
  }
}

function deliveryBytesOf({ inFlight, refusedRuns }: Cursor): number {
  return inFlight.pieces * weights.deliveredRun + inFlight.sizeBytes + refusedRuns * weights.refusedRun;
}

/** The member of a seat, as the seat and its log need it. */
interface SeatHolder {
  readonly id: MemberId;
  wake(): void;
  wakeFor(seat: Seat): void;
  letGo(seat: Seat): void;
  regain(records: number, bytes: number): void;
  moving(records: number): (freed: Freed) => void;
}

/** The relation of a log and the member that holds it. It ends when the member loses the log. */
export class Seat {
  readonly feed: Feed;
  readonly member: SeatHolder;
  /** The index of the seat in the member's list. */
  #at: number;
  #blockedOn: BlockedOn = 'CAUGHT_UP';
  #waitsFor: BlockedOn | null = null;
  #before: Seat | null = null;
  #after: Seat | null = null;
  #revokeDeadlineAtMs: number | null = null;
  #creditWaitSinceMs: number | null = null;
  #cancelLeaseTimer: (() => void) | null = null;

  constructor(feed: Feed, member: SeatHolder, at: number) {
    this.feed = feed;
    this.member = member;
    this.#at = at;
  }

  get at(): number {
    return this.#at;
  }

  moveTo(at: number): void {
    this.#at = at;
  }

  /** Makes the log ready, because it may have records now. */
  wake(): void {
    this.member.wakeFor(this);
  }

  /** Why the last look found nothing to deliver. */
  get blockedOn(): BlockedOn {
    return this.revoking ? 'REVOKING' : this.#blockedOn;
  }

  /** Notes why a look has found nothing to deliver. */
  foundNothing(reason: BlockedOn): void {
    this.#blockedOn = reason;
  }

  /** The reason for which the log waits; null if it is ready. Only `ReadyLogs` sets it. */
  get waitsFor(): BlockedOn | null {
    return this.#waitsFor;
  }

  waitFor(reason: BlockedOn | null): void {
    this.#waitsFor = reason;
  }

  /** The neighbours in a queue of `ReadyLogs`. A seat is in one queue at most. */
  get before(): Seat | null {
    return this.#before;
  }

  get after(): Seat | null {
    return this.#after;
  }

  /** Joins a queue behind `last`. */
  follow(last: Seat | null): void {
    this.#before = last;
    if (last !== null) last.#after = this;
  }

  /** Leaves its queue. */
  unlink(): void {
    if (this.#before !== null) this.#before.#after = this.#after;
    if (this.#after !== null) this.#after.#before = this.#before;
    this.#before = this.#after = null;
  }

  /** The deadline of the revocation, by the wall clock. Nothing is delivered while it is set. */
  get revokeDeadlineAtMs(): number | null {
    return this.#revokeDeadlineAtMs;
  }

  get revoking(): boolean {
    return this.#revokeDeadlineAtMs !== null;
  }

  /** Revokes the log. The member must give it back by the deadline. */
  askBack(deadlineAtMs: number): void {
    this.#revokeDeadlineAtMs = deadlineAtMs;
  }

  /** Ends the revocation: the member keeps the log. */
  stay(): void {
    this.#revokeDeadlineAtMs = null;
  }

  /** Notes that a batch does not fit the credit. @returns since when that has been so. */
  creditWaitSince(nowMs: number): number {
    return (this.#creditWaitSinceMs ??= nowMs);
  }

  /** Ends the wait for credit. */
  creditFound(): void {
    this.#creditWaitSinceMs = null;
  }

  /**
   * Calls `onOver` when the first lease of the log may have expired. A log has one timer for all.
   */
  watchLeases(clock: Clock, onOver: () => void): void {
    const atMs = this.feed.cursor.nextDeadlineMs();
    if (atMs === null || this.#cancelLeaseTimer !== null) return;
    this.#cancelLeaseTimer = clock.after(Math.max(1, Math.ceil(atMs - clock.nowMs())), () => {
      this.#cancelLeaseTimer = null;
      onOver();
    });
  }

  close(): void {
    this.#cancelLeaseTimer?.();
    this.#cancelLeaseTimer = null;
  }
}
