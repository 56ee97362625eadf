import { Credit } from '../../credit/credit.ts';
import { memberPullsMax } from '../../errors/rejections/members.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import { within } from '../../time/within.ts';
import { fieldOf } from '../../log/batch.ts';
import type { PullCommand } from '../ports/membership.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { GroupContext } from '../groups/context.ts';
import type { Member, Reader } from '../dispatch/member.ts';
import { refuseIfUnsure } from '../dispatch/not-owner.ts';
import { memoryRetryMs } from '../dispatch/retry-line.ts';
import { handOut, nextPiece, type Piece } from '../dispatch/piece.ts';
import type { BlockedOn, GapOfLog } from '../ports/session.ts';

/** A pull waits so long for a read of the database, even if its own wait is shorter or zero. */
const readWaitMs = 5_000;
const ownershipRetryMs = 100;
/** A gap in an answer, beside the name of its topic. */
const gapBytesMax = 48;

interface Pulled {
  readonly fields: readonly Buffer[];
  /** By the monotonic clock; null without records or with auto-ack. */
  readonly leaseUntilMs: number | null;
  readonly blockedOn: BlockedOn | null;
  /** The gaps of logs of the member. Records of the same log lie behind its gap. */
  readonly gaps: readonly GapOfLog[];
  /** With auto-ack: the logs whose cursors moved. */
  readonly acked: readonly Feed[];
}

/** One Pull: takes the records that are there, or waits for the first one. */
export class PullSession implements Reader {
  readonly isPull = true;
  blockedOn: BlockedOn | null = null;
  readonly #group: ConsumerGroup;
  readonly #member: Member;
  readonly #command: PullCommand;
  readonly #context: GroupContext;
  /** When to look again without a wake. The first look is due at once. */
  #lookAgainMs = -Infinity;
  #ended = false;
  #error: Rejection | null = null;
  /** Ends the wait; null while the pull does not wait. */
  #woken: (() => void) | null = null;
  /** The pull has been woken and has not looked yet. */
  #willLook = false;

  constructor(group: ConsumerGroup, member: Member, command: PullCommand, context: GroupContext) {
    this.#group = group;
    this.#member = member;
    this.#command = command;
    this.#context = context;
  }

  wake(): boolean {
    if (this.#ended || this.#woken === null) return this.#willLook;
    this.#willLook = true;
    this.#woken();
    return true;
  }

  end(error: Rejection | null): void {
    this.#ended = true;
    this.#error = error;
    this.#willLook = false;
    this.#woken?.();
  }

  /**
   * @throws Rejection MEMBER_PULLS_MAX if the member has enough pulls, MEMBER_FENCED if the member
   * is removed meanwhile.
   */
  async run(): Promise<Pulled> {
    this.#refuseIfOneTooMany();
    const { clock } = this.#context;
    const { waitMs } = this.#command;
    const { signal } = this.#command.reply;
    const startedMs = clock.nowMs();
    const give = (): void => {
      this.end(null);
    };
    signal.addEventListener('abort', give, { once: true });
    this.#member.readerCame(this);
    try {
      while (!this.#ended && !signal.aborted) {
        const pieces = this.#take();
        if (pieces.length > 0) {
          // With auto-ack the acks close the gaps.
          const gaps = this.#gaps(pieces);
          return { ...this.#handOut(pieces), gaps };
        }
        if (this.#member.gaps.hasNew) break;
        const untilMs = startedMs + (this.#member.ready.isReading ? Math.max(waitMs, readWaitMs) : waitMs);
        if (clock.nowMs() >= untilMs) break;
        await this.#wait(Math.min(untilMs, this.#lookAgainMs));
      }
      if (this.#error !== null) throw this.#error;
      refuseIfUnsure(this.#context);
      // The member may have left meanwhile. After a lost reply it always leaves, and no client
      // waits.
      if (!signal.aborted) this.#group.member(this.#member.id);
      return { fields: [], leaseUntilMs: null, blockedOn: this.blockedOn, gaps: this.#gaps([]), acked: [] };
    } finally {
      signal.removeEventListener('abort', give);
      this.#member.pullGone(this, clock.nowMs());
    }
  }

  #refuseIfOneTooMany(): void {
    const { id, readers } = this.#member;
    const { memberPullsMax: max } = limits;
    if (readers.size < max) return;
    const pulls = [...readers].filter((reader) => reader instanceof PullSession).length;
    if (pulls >= max) throw memberPullsMax({ memberId: id, memberPullsMax: max });
  }

  /** Puts records in flight, as many as the bounds of the pull and the member's credit allow. */
  #take(): { piece: Piece; field: Buffer }[] {
    const { clock, mayDeliver } = this.#context;
    const nowMs = clock.nowMs();
    this.#willLook = false;
    if (nowMs >= this.#lookAgainMs) this.#member.ready.timePassed();
    this.#lookAgainMs = Infinity;
    if (!mayDeliver()) {
      this.#lookAgainMs = nowMs + ownershipRetryMs;
      return [];
    }
    const { maxRecords, maxBytes } = this.#command;
    const budget = new Credit(maxRecords, Math.min(maxBytes, limits.messageBytesMax - limits.recordsHeadBytesMax));
    const taken: { piece: Piece; field: Buffer }[] = [];
    this.#member.given(nowMs);
    const find = (): Piece | null => this.#find(budget, nowMs, this.#command.autoAck ? taken.length : null);
    for (let piece = find(); piece !== null; piece = find()) {
      this.#checkLarge(piece);
      const field = handOut(piece, this.#member.credit, this.#context, this.#leaseUntilMs(nowMs));
      // The names of the partitions count too: records one by one may need less than their names.
      const room = Math.max(piece.bytes, budget.bytesMax - budget.bytes);
      const { feed } = piece.seat;
      const gapBytes = feed.gap === null ? 0 : feed.topic.length + gapBytesMax;
      budget.take(piece.records, Math.min(room, Math.max(piece.bytes, field.length) + gapBytes));
      taken.push({ piece, field });
      this.#member.ready.served(piece.seat);
    }
    return taken;
  }

  /** Other logs have their turn before the record that is refused. @throws Rejection */
  #checkLarge({ seat, batch, first, last, bytes }: Piece): void {
    const { checkRecord, maxBytes } = this.#command;
    if (checkRecord === undefined || bytes <= maxBytes) return;
    this.#member.ready.served(seat);
    checkRecord(fieldOf(this.#context.codec, batch, first, last, null));
  }

  #leaseUntilMs(nowMs: number): number | null {
    return this.#command.autoAck ? null : nowMs + limits.pullLeaseMs;
  }

  #find(budget: Credit, nowMs: number, autoAcked: number | null): Piece | null {
    const { credit, ready } = this.#member;
    if (!this.#context.deliveryRoom.has(credit.records)) {
      this.blockedOn = 'WINDOW';
      this.#lookAgainMs = nowMs + memoryRetryMs;
      return null;
    }
    for (let seat = ready.next; seat !== null; seat = ready.next) {
      const look = nextPiece(seat, budget, nowMs, true, autoAcked);
      const fits = 'batch' in look && credit.fits(look.records, look.bytes);
      if (fits) return look;
      const blockedOn = 'batch' in look ? 'CREDIT' : look.blockedOn;
      // The pull is full. The log stays ready for the next one.
      if (!('batch' in look) && blockedOn === 'CREDIT' && budget.records > 0) return null;
      seat.foundNothing(blockedOn);
      ready.wait(seat, blockedOn);
      if (!('batch' in look) && look.untilMs !== null) this.#lookAgainMs = Math.min(this.#lookAgainMs, look.untilMs);
    }
    this.blockedOn = ready.reason ?? 'NO_ASSIGNMENT';
    return null;
  }

  /** Those of the logs whose records go out, and others by turns. */
  #gaps(pieces: readonly { piece: Piece }[]): GapOfLog[] {
    const feeds = pieces.map(({ piece }) => piece.seat.feed);
    const named = new Set([...feeds, ...this.#member.gaps.next(limits.pullGapsMax)]);
    return Array.from(named).flatMap((feed) => feed.tellGap() ?? []);
  }

  #handOut(taken: readonly { piece: Piece; field: Buffer }[]): Omit<Pulled, 'gaps'> {
    const fields = taken.map(({ field }) => field);
    const seats = new Set(taken.map(({ piece }) => piece.seat));
    if (!this.#command.autoAck) {
      for (const seat of seats) this.#group.watchLeases(seat);
      return { fields, leaseUntilMs: this.#leaseUntilMs(this.#context.clock.nowMs()), blockedOn: null, acked: [] };
    }
    // Acks only the records of this pull, because the member must ack all others itself.
    for (const { piece } of taken) {
      const { seat, first, last } = piece;
      const freed = seat.feed.cursor.ackRuns([first, last]);
      this.#group.settle(seat.feed, freed.records, freed.bytes);
    }
    return { fields, leaseUntilMs: null, blockedOn: null, acked: Array.from(seats, ({ feed }) => feed) };
  }

  async #wait(untilMs: number): Promise<void> {
    const { clock } = this.#context;
    const woken = Promise.withResolvers<void>();
    this.#woken = woken.resolve;
    await within(clock, Math.max(1, Math.ceil(untilMs - clock.nowMs())), woken.promise);
    this.#woken = null;
  }
}
