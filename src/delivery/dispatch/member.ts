import type { MemberId } from '../../coordinator/group.ts';
import type { Freed } from '../../consumption/partitioned/cursor.ts';
import { Credit } from '../../credit/credit.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import { type Feed, Seat } from './feed.ts';
import { placesOf } from './places.ts';
import { ReadyLogs } from './ready-logs.ts';
import { MemberGaps } from './member-gaps.ts';
import type { Untold } from './untold.ts';
import type { Reply } from '../ports/reply.ts';
import type { BlockedOn, StreamEnd, TopicPartition } from '../ports/session.ts';

/** A reader of a member: its stream, or a pull that waits. */
export interface Reader {
  /** Pulls wait in a line: one looks for all of them. */
  readonly isPull: boolean;
  /**
   * Makes the reader look for records soon. Cheap, because it is called often. @returns false for
   * a pull that will not look.
   */
  wake(): boolean;
  /** Ends the reader: with the error of a removed member, or without an error. */
  end(error: Rejection | null): void;
  /** Why the reader got nothing at its last look. */
  readonly blockedOn: BlockedOn | null;
}

/** A member that misses so many heartbeats is away. */
const awayAfterMs = 3 * limits.heartbeatIntervalMs;

/** A member in memory: the logs that it holds, its credit, and its readers. */
export class Member {
  readonly id: MemberId;
  readonly readers = new Set<Reader>();
  /** One seat for each log of the member, in no order. */
  readonly #seats: Seat[] = [];
  /** The logs that may have records for the readers. */
  readonly ready = new ReadyLogs();
  /** The seats being revoked. Every heartbeat names them, so this saves a search among all. */
  readonly #asked = new Set<Seat>();
  /** What the stream has not told its client; null without a stream. */
  untold: Untold<Feed> | null = null;
  /** Belongs to the member, not to a partition, so an ack of one partition may unblock another. */
  credit = new Credit(limits.maxInFlightRecordsMax, limits.maxInFlightBytesMax);
  /** Joined by a Pull without a member id, and silent since. It makes room for the next member. */
  anonymous = false;
  /** The logs of the member that have an open gap. */
  readonly gaps = new MemberGaps<Feed>();
  /** The answer that contains the member id; null if the client has the id already. */
  reply: Reply | null = null;
  /** Rises with every change of the held partitions. SyncGroup waits for it. */
  assignmentVersion = 0;
  /** The version that the last SyncGroup has answered with; -1 before the first. */
  syncedVersion = -1;
  /** Kept records for longer than the max poll interval, and lost its partitions for that. */
  stalled = false;
  /** The last progress; or, with nothing to ack, the last delivery, assignment or end of a read. */
  #busySinceMs = 0;
  #heardMs = -Infinity;
  /** The last sign of life, also of a stream that only reads. */
  #seenMs = -Infinity;
  /** How the last stream ended; null without a stream, or if the member has read since. */
  #streamEnd: StreamEnd | null = null;
  /** Records that count in the credit but are MOVING, so that the member cannot ack them. */
  #movingRecords = 0;

  constructor(id: MemberId) {
    this.id = id;
  }

  /** Whether the client can have the member id. */
  get isIntroduced(): boolean {
    return this.reply === null || this.reply.isHandedOver;
  }

  /**
   * Wakes the stream, and one pull, which wakes the next one if it leaves records behind. Waking
   * all pulls would make each of them look for the one record that came.
   */
  wake(): void {
    let pullLooks = false;
    for (const reader of this.readers) {
      if (!reader.isPull) reader.wake();
      else if (!pullLooks) pullLooks = reader.wake();
    }
  }

  get seats(): readonly Seat[] {
    return this.#seats;
  }

  /** Makes the log ready, because it may have records now. */
  wakeFor(seat: Seat): void {
    this.ready.add(seat);
    this.wake();
  }

  /** Returns credit for records that are no longer in flight. */
  regain(records: number, bytes: number): void {
    if (records === 0) return;
    this.credit.give(records, bytes);
    this.ready.creditReturned();
  }

  /**
   * Keeps credit for MOVING records until their outcome is known. @returns a function that gives it
   * back, unless a later stream has begun with new credit.
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

  /** Begins a stream, to which everything un-acked goes out again as the same attempt. */
  beginStream(credit: Credit): void {
    for (const seat of this.#seats) {
      seat.feed.cursor.resend();
      seat.feed.recount();
      this.ready.add(seat);
    }
    this.credit = credit;
    this.#movingRecords = 0;
    this.untold = null;
  }

  /** Restarts the max poll interval, because the member has made progress. */
  worked(nowMs: number): void {
    this.#busySinceMs = nowMs;
  }

  /** Restarts the max poll interval of a member with nothing to ack, before it gets something. */
  given(nowMs: number): void {
    if (!this.#hasWork) this.#busySinceMs = nowMs;
  }

  /** Whether the member has records that it could ack. */
  get #hasWork(): boolean {
    return this.credit.records > this.#movingRecords;
  }

  readerCame(reader: Reader): void {
    this.#streamEnd = null;
    this.readers.add(reader);
  }

  /** Removes the stream, which has ended. @returns false if it was not a reader of the member. */
  streamGone(stream: Reader, reason: StreamEnd, nowMs: number): boolean {
    if (!this.readerGone(stream, nowMs)) return false;
    this.#streamEnd = reason;
    this.untold = null;
    return true;
  }

  /** The connection of the stream was lost: a record in flight may have killed the process. */
  get wasLost(): boolean {
    return this.#streamEnd === 'CONNECTION_LOST';
  }

  /** The client or the broker has ended the stream: no record in flight has killed the process. */
  get hasStopped(): boolean {
    return this.#streamEnd !== null && !this.wasLost;
  }

  readerGone(reader: Reader, nowMs: number): boolean {
    this.given(nowMs);
    this.#seenMs = nowMs;
    return this.readers.delete(reader);
  }

  /** A pull has ended. The next one takes what the pull has left, and waits for its times. */
  pullGone(pull: Reader, nowMs: number): void {
    this.readerGone(pull, nowMs);
    if (this.readers.size === 0) return;
    this.ready.timePassed();
    this.wake();
  }

  heard(nowMs: number): void {
    this.#heardMs = nowMs;
    this.#seenMs = nowMs;
  }

  /** When the member was last known to live. An open reader is a sign of life. */
  seenMs(nowMs: number): number {
    return this.readers.size > 0 ? nowMs : this.#seenMs;
  }

  /**
   * Since when the member has kept records, or has not read; null if it reads and has nothing to
   * ack, or if it is away. A member that is away may be restarting: its session timeout decides.
   */
  busySinceMs(nowMs: number): number | null {
    if (this.readers.size > 0) return this.#hasWork ? this.#busySinceMs : null;
    return nowMs - this.#heardMs > awayAfterMs ? null : this.#busySinceMs;
  }

  /** Gives the log to the member, or ends its revocation if the member holds it already. */
  hold(feed: Feed): void {
    const { seat } = feed;
    if (seat?.member === this) {
      this.#stay(seat);
      this.ready.add(seat);
      this.#untoldOf(feed)?.stays(feed);
    } else {
      this.#seat(feed);
      this.#untoldOf(feed)?.came(feed);
    }
    this.assignmentVersion++;
  }

  /** Revokes the log. The deadline is by the wall clock. */
  askBack(seat: Seat, deadlineAtMs: number): void {
    seat.askBack(deadlineAtMs);
    this.#asked.add(seat);
    this.ready.add(seat);
    this.#untoldOf(seat.feed)?.asked(seat.feed);
    this.assignmentVersion++;
  }

  letGo(seat: Seat): void {
    const last = this.#seats.pop();
    // The last seat takes its place, because a search in `#seats` would cost n² for n logs.
    if (last !== undefined && last !== seat) {
      last.moveTo(seat.at);
      this.#seats[last.at] = last;
    }
    this.ready.remove(seat);
    this.#stay(seat);
    seat.close();
    seat.feed.left();
    this.gaps.went(seat.feed);
    this.untold?.gapWent(seat.feed);
    this.#untoldOf(seat.feed)?.went(seat.feed);
    this.assignmentVersion++;
  }

  /** Lane 0 stands for a partition, which is assigned with all its lanes. */
  #untoldOf({ key }: Feed): Untold<Feed> | null {
    return key.lane === 0 ? this.untold : null;
  }

  #seat(feed: Feed): void {
    const seat = new Seat(feed, this, this.#seats.length);
    this.#seats.push(seat);
    this.ready.admit(seat);
    feed.taken(seat);
    if (feed.gap !== null) this.gapCame(feed);
  }

  /** A log of the member has a gap, or its gap has grown. */
  gapCame(feed: Feed): void {
    this.gaps.came(feed);
    this.untold?.gapCame(feed);
  }

  #stay(seat: Seat): void {
    seat.stay();
    this.#asked.delete(seat);
  }

  get askedBack(): Seat[] {
    return [...this.#asked];
  }

  partitions(): TopicPartition[] {
    return placesOf(this.#seats.map(({ feed }) => feed));
  }

  /** The partitions that it is to give back: the first ones, and whether there are more. */
  revoking(partitionsMax: number): { readonly revoking: TopicPartition[]; readonly moreRevoking: boolean } {
    const feeds = this.askedBack.map(({ feed }) => feed).filter(({ key }) => key.lane === 0);
    return { revoking: placesOf(feeds.slice(0, partitionsMax)), moreRevoking: feeds.length > partitionsMax };
  }
}
