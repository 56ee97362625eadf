import type { Clock } from '../../time/clock.ts';
import type { BlockedOn } from '../ports/session.ts';
import type { Feed } from './feed.ts';
import type { Member } from './member.ts';

/** The relation of a log and the member that holds it. It ends when the member loses the log. */
export class Seat {
  readonly feed: Feed;
  readonly member: Member;
  /** The index of the seat in the member's list. */
  #at: number;
  #blockedOn: BlockedOn = 'CAUGHT_UP';
  #waitsFor: BlockedOn | null = null;
  #before: Seat | null = null;
  #after: Seat | null = null;
  #revokeDeadlineAtMs: number | null = null;
  #creditWaitSinceMs: number | null = null;
  #cancelLeaseTimer: (() => void) | null = null;

  constructor(feed: Feed, member: Member, at: number) {
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
