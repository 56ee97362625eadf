import type { MemberId } from '../../coordinator/group.ts';
import type { Freed } from '../../consumption/partitioned/cursor.ts';
import { Credit } from '../../credit/credit.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { Feed } from './feed.ts';
import { placesOf, type AssignmentChanges } from './assignment-changes.ts';
import { ReadyLogs } from './ready-logs.ts';
import { Seat } from './seat.ts';
import type { Reply } from '../ports/reply.ts';
import type { BlockedOn, StreamEnd, TopicPartition } from '../ports/session.ts';

/** A reader on whose behalf a member is woken: its stream, or a pull that waits. */
export interface Reader {
  /** Something may be deliverable now. Cheap, and called often. */
  wake(): void;
  /** The member is gone (or, without an error, the broker lets it go): nothing more comes. */
  end(error: Rejection | null): void;
  /** What holds the reader back, as far as it knows. */
  readonly blockedOn: BlockedOn | null;
}

/** Whoever misses so many heartbeats is away. */
const awayAfterMs = 3 * limits.heartbeatIntervalMs;

/** A member at work: the logs that it holds, and what it may have in flight of them. */
export class Member {
  readonly id: MemberId;
  readonly readers = new Set<Reader>();
  /** One for each log that it holds, in no order. */
  readonly #seats: Seat[] = [];
  /** Those of them that may have something for its stream. */
  readonly ready = new ReadyLogs();
  /** Those of them that it is asked to give back: every heartbeat tells them, so they are not looked for among all. */
  readonly #asked = new Set<Seat>();
  /** What its stream is to be told of; null: it is told everything, each time or as it has been told nothing yet. */
  changes: AssignmentChanges | null = null;
  /** Credit belongs to the member, not to a partition: an ack of one may let another go on. */
  credit = new Credit(limits.maxInFlightRecordsMax, limits.maxInFlightBytesMax);
  /** Joined by a Pull without a member id and has not been heard of since: it makes room for whoever joins next. */
  anonymous = false;
  /** The answer that tells its client the member id; null: the client knows it from elsewhere. */
  reply: Reply | null = null;
  /** Rises with every change of what it holds; SyncGroup waits for it. */
  assignmentVersion = 0;
  /** The version that the last SyncGroup answered with; -1: none has. */
  syncedVersion = -1;
  /** It kept records for longer than its max poll interval, and its partitions were taken. */
  stalled = false;
  /** When it acked last, or was given something or stopped to read while it had nothing. */
  #busySinceMs = 0;
  #heardMs = -Infinity;
  /** How its last stream ended; null: there was none, or it has read since. */
  #streamEnd: StreamEnd | null = null;
  #rotation = 0;
  /** Records that its credit counts and that are MOVING: the member can do nothing about them. */
  #movingRecords = 0;

  constructor(id: MemberId) {
    this.id = id;
  }

  /** Whether its client can have the member id. */
  get isIntroduced(): boolean {
    return this.reply === null || this.reply.isHandedOver;
  }

  wake(): void {
    for (const reader of this.readers) reader.wake();
  }

  get seats(): readonly Seat[] {
    return this.#seats;
  }

  /** The log may have something to deliver. */
  wakeFor(seat: Seat): void {
    this.ready.add(seat);
    this.wake();
  }

  /** So much is no longer in flight. */
  regain(records: number, bytes: number): void {
    if (records === 0) return;
    this.credit.give(records, bytes);
    this.ready.creditReturned();
  }

  /**
   * So many of its records are MOVING. Its credit counts them until the outcome is known.
   * @returns what returns that credit; to the credit of today, not to that of a later stream.
   */
  moving(records: number): (freed: Freed) => void {
    const { credit } = this;
    this.#movingRecords += records;
    return (freed) => {
      if (this.credit !== credit) return;
      this.#movingRecords -= records;
      this.regain(freed.records, freed.bytes);
      this.wake();
    };
  }

  /** A stream begins: it may have so much in flight, and everything that is not acked goes out again, attempt unchanged. */
  beginStream(credit: Credit): void {
    for (const seat of this.#seats) {
      seat.feed.cursor.resend();
      this.ready.add(seat);
    }
    this.credit = credit;
    this.#movingRecords = 0;
    this.changes = null;
  }

  /** What it has done with what it has: the time counts from here. */
  worked(nowMs: number): void {
    this.#busySinceMs = nowMs;
  }

  /** Called before it is given records or partitions. */
  given(nowMs: number): void {
    if (!this.#hasWork) this.#busySinceMs = nowMs;
  }

  /** It has records that it could ack. */
  get #hasWork(): boolean {
    return this.credit.records > this.#movingRecords;
  }

  /** A stream, or a pull, of it begins. */
  readerCame(reader: Reader): void {
    this.#streamEnd = null;
    this.readers.add(reader);
  }

  /** Its stream is over. @returns whether it was its stream until now. */
  streamGone(stream: Reader, reason: StreamEnd, nowMs: number): boolean {
    if (!this.readerGone(stream, nowMs)) return false;
    this.#streamEnd = reason;
    this.changes = null;
    return true;
  }

  /** The connection of its stream was lost: what it had in flight may be what ended its process. */
  get wasLost(): boolean {
    return this.#streamEnd === 'CONNECTION_LOST';
  }

  /** Its stream was cancelled, or ended by the broker: its process has not failed on what it had in flight. */
  get hasStopped(): boolean {
    return this.#streamEnd !== null && !this.wasLost;
  }

  /** Its stream, or a pull of it, has ended. */
  readerGone(reader: Reader, nowMs: number): boolean {
    this.given(nowMs);
    return this.readers.delete(reader);
  }

  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }

  /**
   * null: it has nothing that it could ack, and reads. One that does not read keeps what it holds from others all the same; but one
   * that is not heard of is away, which is for its session timeout to judge: a static member may be restarting.
   */
  busySinceMs(nowMs: number): number | null {
    if (this.readers.size > 0) return this.#hasWork ? this.#busySinceMs : null;
    return nowMs - this.#heardMs > awayAfterMs ? null : this.#busySinceMs;
  }

  /** It has the log from now on, or keeps one that it was to give back. */
  hold(feed: Feed): void {
    const { seat } = feed;
    if (seat?.member === this) {
      this.#stay(seat);
      this.ready.add(seat);
    } else {
      this.#seat(feed);
    }
    this.changes?.came(feed);
    this.assignmentVersion++;
  }

  /** It is to give the log back, until then at the latest, by the wall clock. */
  askBack(seat: Seat, deadlineAtMs: number): void {
    seat.askBack(deadlineAtMs);
    this.#asked.add(seat);
    this.ready.add(seat);
    this.assignmentVersion++;
  }

  letGo(seat: Seat): void {
    const last = this.#seats.pop();
    // The last one takes its place: a search would cost n for each of n.
    if (last !== undefined && last !== seat) {
      last.moveTo(seat.at);
      this.#seats[last.at] = last;
    }
    this.ready.remove(seat);
    this.#stay(seat);
    seat.close();
    seat.feed.left();
    this.changes?.went(seat.feed);
    this.assignmentVersion++;
  }

  #seat(feed: Feed): void {
    const seat = new Seat(feed, this, this.#seats.length);
    this.#seats.push(seat);
    this.ready.admit(seat);
    feed.taken(seat);
  }

  #stay(seat: Seat): void {
    seat.stay();
    this.#asked.delete(seat);
  }

  /** For pulls: the held logs, beginning behind the one that was served last, so that none starves. */
  *inTurn(): Generator<Seat> {
    const count = this.#seats.length;
    for (let step = 0; step < count; step++) {
      const seat = this.#seats[(this.#rotation + step) % count];
      if (seat === undefined) return;
      yield seat;
    }
  }

  /** The log was served: the next turn begins behind it. */
  served(seat: Seat): void {
    this.#rotation = (seat.at + 1) % Math.max(1, this.#seats.length);
  }

  get askedBack(): Seat[] {
    return [...this.#asked];
  }

  partitions(): TopicPartition[] {
    return placesOf(this.#seats.map(({ feed }) => feed));
  }

  revoking(): TopicPartition[] {
    return placesOf(this.askedBack.map(({ feed }) => feed));
  }
}
