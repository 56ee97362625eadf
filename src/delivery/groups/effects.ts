import type {
  AssignorName,
  GroupEffect,
  MemberId,
  PartitionRef,
  RebalanceRow,
  RemovalReason,
} from '../../coordinator/group.ts';
import { instanceFenced, memberFenced } from '../../errors/rejections/members.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { GroupContext } from './context.ts';
import type { Member } from '../dispatch/member.ts';
import type { GroupModel } from './model.ts';
import { rebalanceFields } from './rebalance-fields.ts';
import { StreamSession } from '../dispatch/stream-session.ts';

const none: readonly PartitionRef[] = [];

/**
 * Carries out the durable decisions of a group's coordinator: on members, their streams, and the
 * records in flight.
 */
export class GroupEffects {
  readonly #state: GroupModel;
  readonly #context: GroupContext;

  constructor(state: GroupModel, context: GroupContext) {
    this.#state = state;
    this.#context = context;
  }

  /** @returns the revoked partitions without records in flight, which may move at once. */
  carryOut(effect: GroupEffect): readonly PartitionRef[] {
    switch (effect.type) {
      case 'replaced':
        return this.#replaced(effect.memberId, effect.oldMemberId);
      case 'revoking':
        return this.#revoking(effect);
      case 'removed':
        this.#removed(effect.memberId, effect.reason);
        break;
      case 'revoked':
        this.#revoked(effect);
        break;
      case 'assigned':
        this.#assigned(effect.memberId, effect.added);
        break;
      case 'rebalanced':
        this.#rebalanced(effect.rebalance);
        break;
      case 'assignorFailed':
        this.#assignorFailed(effect.assignor, effect.message);
        break;
      case 'persist':
      case 'refused':
    }
    return none;
  }

  /** Takes the log and its records in flight from its member. The next holder gets them again. */
  takeBack(log: Feed, hasFailed: boolean): void {
    const { seat, cursor } = log;
    const { lostAttempts, rounds } = this.#context;
    const countAttempt = hasFailed && cursor.inFlightRecords > 0 && lostAttempts.mayCount(cursor);
    const freed = cursor.giveBackAll(countAttempt);
    log.recount();
    if (countAttempt && freed.records > 0) rounds.mark(log);
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

  #tellAssigned(member: Member): void {
    for (const reader of member.readers) if (reader instanceof StreamSession) reader.tellAssigned();
  }

  #assigned(memberId: MemberId, added: readonly PartitionRef[]): void {
    const member = this.#state.members.get(memberId);
    if (member === undefined) return;
    member.stalled = false;
    member.given(this.#context.clock.nowMs());
    for (const feed of added.flatMap((ref) => this.#state.lanesOf(ref))) {
      if (feed.seat !== null && feed.seat.member !== member) this.takeBack(feed, false);
      member.hold(feed);
    }
    this.#tellAssigned(member);
    member.wake();
  }

  #revoking(effect: Extract<GroupEffect, { type: 'revoking' }>): readonly PartitionRef[] {
    const member = this.#state.members.get(effect.memberId);
    if (member === undefined) return none;
    const seats = effect.partitions.flatMap((ref) => this.#state.lanesOf(ref).flatMap(({ seat }) => seat ?? []));
    const { clock } = this.#context;
    const deadlineAtMs = clock.wallMs() + (effect.deadlineMs - clock.nowMs());
    for (const seat of seats) member.askBack(seat, deadlineAtMs);
    for (const reader of member.readers) if (reader instanceof StreamSession) reader.tellRevoking();
    return effect.partitions.filter((ref) => this.#state.isDrained(ref));
  }

  /**
   * Counts an attempt of the records of a stalled member, because one of them may be the reason.
   */
  #revoked({ memberId, partitions, stalled }: Extract<GroupEffect, { type: 'revoked' }>): void {
    for (const feed of partitions.flatMap((ref) => this.#state.lanesOf(ref))) {
      if (feed.seat?.member.id === memberId) this.takeBack(feed, stalled);
    }
    const member = this.#state.members.get(memberId);
    if (member === undefined) return;
    member.stalled ||= stalled;
    this.#tellAssigned(member);
  }

  /**
   * Fences the old process of an instance, and gives its partitions and records to the new one. It
   * counts an attempt only if the connection of the old process was lost: a record may have killed
   * it.
   */
  #replaced(memberId: MemberId, oldMemberId: MemberId): readonly PartitionRef[] {
    const [old, member] = [this.#state.members.get(oldMemberId), this.#state.members.get(memberId)];
    if (old === undefined || member === undefined) return none;
    const asked: PartitionRef[] = [];
    member.given(this.#context.clock.nowMs());
    for (const { feed, revokeDeadlineAtMs } of [...old.seats]) {
      this.takeBack(feed, old.wasLost);
      member.hold(feed);
      if (revokeDeadlineAtMs === null || feed.seat === null) continue;
      member.askBack(feed.seat, revokeDeadlineAtMs);
      const { topicId, partition } = feed.log.address;
      if (feed.key.lane === 0) asked.push({ topicId, partition });
    }
    this.#state.forgetMember(oldMemberId, this.#context.clock.nowMs());
    this.endReaders(old, instanceFenced({ memberId: oldMemberId }));
    return asked;
  }

  #removed(memberId: MemberId, reason: RemovalReason): void {
    if (reason === 'SESSION_TIMEOUT') this.#context.counts.sessionTimeouts++;
    const member = this.#state.members.get(memberId);
    if (member === undefined) return;
    this.#state.forgetMember(memberId, this.#context.clock.nowMs());
    // A member that left or cancelled its stream has not failed. A record may have killed a lost
    // one.
    const mayHaveFailed = reason !== 'LEFT' && !member.hasStopped;
    for (const { feed } of [...member.seats]) this.takeBack(feed, mayHaveFailed);
    this.endReaders(member, reason === 'LEFT' ? null : memberFenced({ memberId }));
  }

  #assignorFailed(assignor: AssignorName, message: string): void {
    const fields = { group: this.#state.name, assignor, reason: message };
    this.#context.log.warn(fields, 'an assignor failed; the sticky assignor assigned the partitions');
  }

  #rebalanced(rebalance: RebalanceRow): void {
    const { counts, log } = this.#context;
    counts.rebalances++;
    counts.rebalanceMs += rebalance.durationMs;
    log.info(rebalanceFields(this.#state.name, rebalance), 'rebalanced');
  }
}
