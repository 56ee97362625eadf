import type { GroupEffect, MemberId, PartitionRef, RebalanceRow, RemovalReason } from '../../coordinator/group.ts';
import type { Rejection } from '../../errors/rejection.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { GroupContext } from './context.ts';
import type { Member } from '../dispatch/member.ts';
import { fenced, instanceFenced } from './refusals.ts';
import { rebalanceFields } from './rebalance-fields.ts';
import type { Seat } from '../dispatch/seat.ts';
import { StreamSession } from '../dispatch/stream-session.ts';

export interface EnactmentDeps {
  readonly groupName: string;
  readonly context: GroupContext;
  readonly members: Map<MemberId, Member>;
  /** All lanes of a partition. */
  readonly lanesOf: (ref: PartitionRef) => readonly Feed[];
  readonly generation: () => number;
  /** Nothing of a partition that is being revoked is in flight any more. */
  readonly onDrained: (partition: PartitionRef) => void;
}

/** Carries out what the coordinator of a group has decided, once it is durable: on members, their streams, and what they have in flight. */
export class Enactment {
  readonly #d: EnactmentDeps;

  constructor(deps: EnactmentDeps) {
    this.#d = deps;
  }

  carryOut(effect: GroupEffect): void {
    switch (effect.type) {
      case 'persist':
      case 'refused':
        return;
      case 'assignorFailed': {
        const { assignor, message } = effect;
        const fields = { group: this.#d.groupName, assignor, reason: message };
        this.#d.context.log.warn(fields, 'an assignor failed; sticky gave out the partitions');
        return;
      }
      case 'replaced':
        this.#replaced(effect.memberId, effect.oldMemberId);
        return;
      case 'removed':
        this.#removed(effect.memberId, effect.reason);
        return;
      case 'revoked':
        this.#revoked(effect);
        return;
      case 'revoking':
        this.#revoking(effect);
        return;
      case 'assigned':
        this.#assigned(effect.memberId, effect.added);
        return;
      case 'rebalanced':
        this.#rebalanced(effect.rebalance);
        return;
    }
  }

  tellAssigned(member: Member): void {
    for (const reader of member.readers) if (reader instanceof StreamSession) reader.tellAssigned();
  }

  tellRevoking(session: StreamSession, seats: readonly Seat[]): void {
    if (seats.length === 0) return;
    const deadlineAtMs = seats.reduce((first, seat) => Math.min(first, seat.revokeDeadlineAtMs ?? Infinity), Infinity);
    const partitions = seats.flatMap(({ feed: { key, place } }) => (key.lane === 0 ? [place] : []));
    session.tell({ type: 'revoking', generation: this.#d.generation(), partitions, deadlineAtMs });
  }

  /** A partition that is asked back may go when nothing of any of its lanes is in flight. */
  lookDrained({ topicId, partition }: PartitionRef): void {
    const lanes = this.#d.lanesOf({ topicId, partition });
    if (lanes.every(({ cursor }) => cursor.inFlightRecords === 0)) this.#d.onDrained({ topicId, partition });
  }

  /** What was in flight of the log is given back; the next holder begins there. */
  takeBack(log: Feed, countAttempt: boolean): void {
    const { seat } = log;
    const freed = log.cursor.giveBackAll(countAttempt);
    if (countAttempt && freed.records > 0) this.#d.context.rounds.mark(log);
    if (seat === null) return;
    const { member } = seat;
    member.regain(freed.records, freed.bytes);
    member.letGo(seat);
    member.wake();
  }

  endReaders(member: Member, error: Rejection | null): void {
    for (const reader of member.readers) reader.end(error);
    member.readers.clear();
  }

  #assigned(memberId: MemberId, added: readonly PartitionRef[]): void {
    const member = this.#d.members.get(memberId);
    if (member === undefined) return;
    member.stalled = false;
    member.given(this.#d.context.clock.nowMs());
    for (const feed of added.flatMap((ref) => this.#d.lanesOf(ref))) {
      if (feed.seat !== null && feed.seat.member !== member) this.takeBack(feed, false);
      member.hold(feed);
    }
    this.tellAssigned(member);
    member.wake();
  }

  #revoking(effect: Extract<GroupEffect, { type: 'revoking' }>): void {
    const member = this.#d.members.get(effect.memberId);
    if (member === undefined) return;
    const seats = effect.partitions.flatMap((ref) => this.#d.lanesOf(ref).flatMap(({ seat }) => seat ?? []));
    const { clock } = this.#d.context;
    const deadlineAtMs = clock.wallMs() + (effect.deadlineMs - clock.nowMs());
    for (const seat of seats) member.askBack(seat, deadlineAtMs);
    for (const reader of member.readers) if (reader instanceof StreamSession) this.tellRevoking(reader, seats);
    for (const ref of effect.partitions) this.lookDrained(ref);
  }

  /** What a member did not work on counts an attempt: it may be what keeps it from working. */
  #revoked({ memberId, partitions, stalled }: Extract<GroupEffect, { type: 'revoked' }>): void {
    for (const feed of partitions.flatMap((ref) => this.#d.lanesOf(ref))) {
      if (feed.seat?.member.id === memberId) this.takeBack(feed, stalled);
    }
    const member = this.#d.members.get(memberId);
    if (member === undefined) return;
    member.stalled ||= stalled;
    this.tellAssigned(member);
  }

  /**
   * The old process of an instance is fenced, and the new one gets what it had in flight. A deploy
   * counts no attempt. An old process whose connection was lost may have failed on what it had.
   */
  #replaced(memberId: MemberId, oldMemberId: MemberId): void {
    const [old, member] = [this.#d.members.get(oldMemberId), this.#d.members.get(memberId)];
    if (old === undefined || member === undefined) return;
    member.given(this.#d.context.clock.nowMs());
    for (const { feed, revokeDeadlineAtMs } of [...old.seats]) {
      this.takeBack(feed, old.wasLost);
      member.hold(feed);
      if (revokeDeadlineAtMs === null || feed.seat === null) continue;
      member.askBack(feed.seat, revokeDeadlineAtMs);
      this.lookDrained(feed.log.address);
    }
    this.#d.members.delete(oldMemberId);
    this.endReaders(old, instanceFenced(oldMemberId));
  }

  #removed(memberId: MemberId, reason: RemovalReason): void {
    if (reason === 'SESSION_TIMEOUT') this.#d.context.counts.sessionTimeouts++;
    const member = this.#d.members.get(memberId);
    if (member === undefined) return;
    this.#d.members.delete(memberId);
    // A member that left, or cancelled its stream, did not fail. One that was lost may have failed on
    // what it had.
    const mayHaveFailed = reason !== 'LEFT' && !member.hasStopped;
    for (const { feed } of [...member.seats]) this.takeBack(feed, mayHaveFailed);
    this.endReaders(member, reason === 'LEFT' ? null : fenced(memberId));
  }

  #rebalanced(rebalance: RebalanceRow): void {
    const { counts, log } = this.#d.context;
    counts.rebalances++;
    counts.rebalanceMs += rebalance.durationMs;
    log.info(rebalanceFields(this.#d.groupName, rebalance), 'rebalanced');
  }
}
