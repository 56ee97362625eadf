import type { Clock } from '../../time/clock.ts';
import type { BlockedOn } from '../ports/session.ts';
import type { Feed } from './feed.ts';
import type { Member } from './member.ts';

/** A log in the queue of the member that holds it. It ends when the member lets go of the log. */
export class Seat {
  readonly feed: Feed;
  readonly member: Member;
  /** Its place among the logs of the member. */
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

  /** The log may have something to deliver. */
  wake(): void {
    this.member.wakeFor(this);
  }

  /** Why the last look found nothing to deliver. */
  get blockedOn(): BlockedOn {
    return this.revoking ? 'REVOKING' : this.#blockedOn;
  }

  /** A look has found nothing to deliver, for this reason. */
  foundNothing(reason: BlockedOn): void {
    this.#blockedOn = reason;
  }

  /** What makes it ready when it comes; null: it is ready. `ReadyLogs` alone decides. */
  get waitsFor(): BlockedOn | null {
    return this.#waitsFor;
  }

  waitFor(reason: BlockedOn | null): void {
    this.#waitsFor = reason;
  }

  /** Its neighbours in the one queue of `ReadyLogs` that it may stand in. */
  get before(): Seat | null {
    return this.#before;
  }

  get after(): Seat | null {
    return this.#after;
  }

  /** Joins a queue behind the one that was its last. */
  follow(last: Seat | null): void {
    this.#before = last;
    if (last !== null) last.#after = this;
  }

  /** Leaves its queue: its neighbours close up. */
  unlink(): void {
    if (this.#before !== null) this.#before.#after = this.#after;
    if (this.#after !== null) this.#after.#before = this.#before;
    this.#before = this.#after = null;
  }

  /** Set while the log is moving away and nothing new is delivered: until when, by the wall clock. */
  get revokeDeadlineAtMs(): number | null {
    return this.#revokeDeadlineAtMs;
  }

  get revoking(): boolean {
    return this.#revokeDeadlineAtMs !== null;
  }

  /** The member is to give the log back, until then at the latest. */
  askBack(deadlineAtMs: number): void {
    this.#revokeDeadlineAtMs = deadlineAtMs;
  }

  /** The member keeps the log after all. */
  stay(): void {
    this.#revokeDeadlineAtMs = null;
  }

  /** A batch does not fit the credit. @returns since when that is so. */
  creditWaitSince(nowMs: number): number {
    return (this.#creditWaitSinceMs ??= nowMs);
  }

  /** What waited for credit goes out. */
  creditFound(): void {
    this.#creditWaitSinceMs = null;
  }

  /** Records were handed out with a lease: `onOver` is called when the earliest may be over. One timer a log. */
  watchLeases(clock: Clock, onOver: () => void): void {
    const atMs = this.feed.cursor.nextDeadlineMs();
    if (atMs === null || this.#cancelLeaseTimer !== null) return;
    this.#cancelLeaseTimer = clock.after(Math.max(1, Math.ceil(atMs - clock.nowMs())), () => {
      this.#cancelLeaseTimer = null;
      onOver();
    });
  }

  /** The member holds the log no longer. */
  close(): void {
    this.#cancelLeaseTimer?.();
    this.#cancelLeaseTimer = null;
  }
}
