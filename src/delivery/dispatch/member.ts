import type { MemberId } from '../../coordinator/group.ts';
import { Credit } from '../../credit/credit.ts';
import type { Rejection } from '../../errors/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { ConsumedLog } from './consumed-log.ts';
import { placesOf, type AssignmentChanges } from './assignment-changes.ts';
import { ReadyLogs } from './ready-logs.ts';
import type { Reply } from '../ports/reply.ts';
import type { BlockedOn, TopicPartition } from '../ports/session.ts';

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
  /** Held logs, in no order. */
  readonly logs: ConsumedLog[] = [];
  /** Those of them that may have something for its stream. */
  readonly ready = new ReadyLogs();
  /** Those of them that it is asked to give back: every heartbeat tells them, so they are not looked for among all. */
  readonly #asked = new Set<ConsumedLog>();
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
  #rotation = 0;

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

  /** The log may have something to deliver. */
  wakeFor(log: ConsumedLog): void {
    this.ready.add(log);
    this.wake();
  }

  /** So much is no longer in flight. */
  regain(records: number, bytes: number): void {
    if (records === 0) return;
    this.credit.give(records, bytes);
    this.ready.creditReturned();
  }

  /** A stream begins: it may have so much in flight, and everything that is not acked goes out again, attempt unchanged. */
  beginStream(credit: Credit): void {
    for (const log of this.logs) {
      log.cursor.resend();
      this.ready.add(log);
    }
    this.credit = credit;
    this.changes = null;
  }

  /** What it has done with what it has: the time counts from here. */
  worked(nowMs: number): void {
    this.#busySinceMs = nowMs;
  }

  /** Called before it is given records or partitions. */
  given(nowMs: number): void {
    if (this.credit.records === 0) this.#busySinceMs = nowMs;
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
    if (this.readers.size > 0) return this.credit.records === 0 ? null : this.#busySinceMs;
    return nowMs - this.#heardMs > awayAfterMs ? null : this.#busySinceMs;
  }

  hold(log: ConsumedLog): void {
    if (log.holder !== this) {
      log.heldAt = this.logs.length;
      this.logs.push(log);
      this.ready.admit(log);
    } else {
      this.ready.add(log);
    }
    log.holder = this;
    this.#keep(log);
    this.changes?.came(log);
    this.assignmentVersion++;
  }

  /** It is to give the log back, until then at the latest, by the wall clock. */
  askBack(log: ConsumedLog, deadlineAtMs: number): void {
    log.revokeDeadlineAtMs = deadlineAtMs;
    this.#asked.add(log);
    this.ready.add(log);
    this.assignmentVersion++;
  }

  letGo(log: ConsumedLog): void {
    const last = this.logs.pop();
    // The last one takes its place: a search would cost n for each of n.
    if (last !== undefined && last !== log) {
      last.heldAt = log.heldAt;
      this.logs[last.heldAt] = last;
    }
    this.ready.remove(log);
    log.holder = null;
    this.#keep(log);
    this.changes?.went(log);
    this.assignmentVersion++;
  }

  #keep(log: ConsumedLog): void {
    log.revokeDeadlineAtMs = null;
    this.#asked.delete(log);
  }

  /** For pulls: the held logs, beginning behind the one that was served last, so that none starves. */
  *inTurn(): Generator<ConsumedLog> {
    const count = this.logs.length;
    for (let step = 0; step < count; step++) {
      const log = this.logs[(this.#rotation + step) % count];
      if (log === undefined) return;
      yield log;
    }
  }

  /** `log` was served: the next turn begins behind it. */
  served(log: ConsumedLog): void {
    this.#rotation = (log.heldAt + 1) % Math.max(1, this.logs.length);
  }

  get askedBack(): ConsumedLog[] {
    return [...this.#asked];
  }

  partitions(): TopicPartition[] {
    return placesOf(this.logs);
  }

  revoking(): TopicPartition[] {
    return placesOf(this.askedBack);
  }
}
