import assert from 'node:assert/strict';
import type { Cursor, Freed } from '../../consumption/partitioned/cursor.ts';
import type { MemberId } from '../../coordinator/group.ts';
import type { Consumption } from '../../metrics/consumption.ts';
import { batchBytes, endOffset, type EncodedBatch } from '../../log/batch.ts';
import type { AppendListener, PartitionLog } from '../../log/partition-log.ts';
import { BelowLogStart } from '../../log/store.ts';
import type { LogGap } from '../../retention/gap.ts';
import type { Clock } from '../../time/clock.ts';
import type { Kept } from '../kept/kept.ts';
import { CountedCursor } from '../kept/counted-cursor.ts';
import type { FeedMemory } from './feed-memory.ts';
import type { BlockedOn, GapOfLog, PartitionStatus, TopicPartition } from '../ports/session.ts';
import type { CursorKey } from '../ports/store.ts';

/** The wait before a failed read of a batch is repeated. */
const readRetryMs = 500;

export interface FeedParts {
  readonly clock: Clock;
  readonly memory: FeedMemory;
  /** What clients make the broker keep. */
  readonly kept: Kept;
  /** Lets cursors jump that lie below the start of their log. */
  readonly jumps: { begin(feed: Feed): void; told(feed: Feed, gap: LogGap): void };
}

/** The subscription of a feed. */
interface FeedSubscription {
  readonly groupName: string;
  readonly isPaused: boolean;
  /** The sums over its logs. */
  readonly consumption: Consumption;
}

/**
 * A log as one subscription consumes it: the cursor, and the batches to deliver. Its seat connects
 * it with the member that holds the log.
 */
export class Feed extends CountedCursor implements AppendListener {
  readonly key: CursorKey;
  /** The partition as events name it. All events share this object. */
  readonly place: TopicPartition;
  readonly log: PartitionLog;
  readonly #subscription: FeedSubscription;
  readonly #parts: FeedParts;
  #seat: Seat | null = null;
  /**
   * A batch from the database, kept for this cursor even if the caches of the log have dropped it.
   */
  #kept: EncodedBatch | null = null;
  #fetching = false;
  #cancelRetry: (() => void) | null = null;
  /** The begin of the last ack round in which the cursor moved. */
  #lastRoundMs = -Infinity;

  constructor(key: CursorKey, cursor: Cursor, log: PartitionLog, parts: FeedParts, subscription: FeedSubscription) {
    super(cursor, parts.kept, subscription.consumption);
    this.#subscription = subscription;
    this.key = key;
    this.place = { topic: log.address.topicName, partition: key.partition };
    this.log = log;
    this.#parts = parts;
    log.addListener(this);
    this.trimmed();
  }

  get groupName(): string {
    return this.#subscription.groupName;
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
    this.countHeld(true);
    this.#seat = seat;
  }

  /** Takes the log from the member of the seat. */
  left(): void {
    this.countHeld(false);
    this.#seat = null;
    this.#drop();
  }

  /** Whether the subscription is PAUSED, so that nothing new goes out. */
  get isPaused(): boolean {
    return this.#subscription.isPaused;
  }

  appended(): void {
    this.#seat?.wake();
  }

  /** Whether retention has dropped un-acked records. The cursor jumps then. */
  get isBelowStart(): boolean {
    return this.cursor.committedOffset < this.log.startOffset;
  }

  /** The log may begin behind the cursor now. */
  trimmed(): void {
    if (this.isBelowStart && !this.isClosed) this.#parts.jumps.begin(this);
  }

  /** Jumps over the gap, behind which the log begins. @returns how many records are lost. */
  jump(gap: LogGap): number {
    this.openGap(gap);
    const { completedRecords } = this.cursor;
    const freed = this.cursor.advance(gap.last + 1);
    assert(freed.status === 'OK', 'a cursor that jumps has no MOVING records');
    const lost = this.cursor.completedRecords - completedRecords;
    this.#subscription.consumption.gapRecords += lost;
    this.begun();
    this.#forgetFailedRead();
    this.#seat?.member.regain(freed.records, freed.bytes);
    this.#seat?.member.gapCame(this);
    this.#seat?.wake();
    return lost;
  }

  /** @returns the gap of the log, which the caller tells a member; null without one. */
  tellGap(): GapOfLog | null {
    const { gap } = this;
    this.gapTold();
    return gap === null ? null : { ...this.place, lane: this.key.lane, ...gap };
  }

  protected override gapClosed(gap: LogGap): void {
    this.#parts.jumps.told(this, gap);
  }

  /** Follows a reset of the cursor. */
  wasReset(): void {
    this.forgetGap();
    this.begun();
    this.recountNote();
    // A drop may have passed the new place before memory had it.
    this.trimmed();
  }

  /** The batch that contains `offset`; null while the database is read, which wakes the seat. */
  batchAt(offset: number): EncodedBatch | null {
    const kept = this.#kept;
    if (kept !== null && offset >= kept.baseOffset && offset < endOffset(kept)) {
      this.#parts.memory.used(this);
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
    this.#subscription.consumption.deliveredRecords += last - first + 1;
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

  close(): void {
    if (this.isClosed) return;
    this.endCount();
    this.#forgetFailedRead();
    this.#drop();
    this.#seat?.close();
    this.log.removeListener(this);
  }

  async #fetch(offset: number): Promise<void> {
    this.#fetching = true;
    try {
      const batch = await this.log.fetch(offset);
      this.#fetching = false;
      if (this.isClosed) return;
      if (batch !== null) this.#keep(batch);
      this.#seat?.wake();
    } catch (error) {
      if (!this.isClosed) this.#fetchFailed(error);
    }
  }

  #fetchFailed(error: unknown): void {
    if (error instanceof BelowLogStart) {
      // The start of the log is behind the offset by now, so the next look does not read again.
      this.#fetching = false;
      this.#seat?.wake();
      return;
    }
    // The database does not answer. `#fetching` stays set, so that a busy pump does not ask all the
    // time.
    this.#cancelRetry = this.#parts.clock.after(readRetryMs, () => {
      this.#forgetFailedRead();
      this.#seat?.wake();
    });
  }

  #forgetFailedRead(): void {
    if (this.#cancelRetry === null) return;
    this.#cancelRetry();
    this.#cancelRetry = null;
    this.#fetching = false;
  }

  /** Does nothing without a holder, because the next one may begin at another offset. */
  #keep(batch: EncodedBatch): void {
    if (this.#seat === null) return;
    this.#kept = batch;
    this.#parts.memory.keep(this, batchBytes(batch));
  }

  #drop(): void {
    if (this.#kept === null) return;
    this.#kept = null;
    this.#parts.memory.drop(this);
  }
}

/** The member of a seat, as the seat and its log need it. */
interface SeatHolder {
  readonly id: MemberId;
  wake(): void;
  wakeFor(seat: Seat): void;
  letGo(seat: Seat): void;
  gapCame(feed: Feed): void;
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
