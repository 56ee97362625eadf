import { instanceFenced, memberFenced } from '../errors/rejections/members.ts';
import { Agreement, type TaskRoom } from './agreement.ts';
import type { Holdings } from './holdings.ts';
import { sameMemberRow, sameOptions, type Member } from './member.ts';
import type { Rebalance } from './rebalance.ts';
import { Roster } from './roster.ts';
import type { MemberId, MemberRow, PartitionRef, RebalanceReason } from './snapshot.ts';
import type { GroupInput, RefusalReason, RemovalReason } from './step.ts';
import type { Turn } from './turn.ts';

type JoinInput = Extract<GroupInput, { type: 'join' }>;

/** The change of a member since the last rebalance. */
interface Joined {
  /** All inputs that caused it. */
  readonly inputs: JoinInput[];
  /** The row at the last rebalance; null: there was none. */
  readonly before: MemberRow | null;
}

interface Refusal {
  readonly reason: RefusalReason;
  readonly message: string;
}

const removalCause: Readonly<Record<RemovalReason, RebalanceReason>> = {
  LEFT: 'MEMBER_LEFT',
  STREAM_LOST: 'STREAM_LOST',
  SESSION_TIMEOUT: 'SESSION_TIMEOUT',
  REBALANCE_TIMEOUT: 'REBALANCE_TIMEOUT',
};

/**
 * The members: joins, changes, replacements by instance id, leaves, expired sessions, stalls.
 * Reports to `Rebalance` which of these call for a rebalance.
 */
export class Membership {
  readonly roster = new Roster();
  readonly agreement: Agreement;
  /**
   * Members that joined or changed since the last rebalance: a failing assignor refuses their
   * inputs.
   */
  readonly joins = new Map<MemberId, Joined>();
  /** A change since the last rebalance that cannot be refused: a member left, or was replaced. */
  changed = false;
  /**
   * A lower bound of all deadlines. The exact one would cost a look at all members per heartbeat.
   */
  wakeMs = Infinity;
  /**
   * The change came from a static member that rejoined with other options. It cannot be rolled
   * back.
   */
  #heirChanged = false;
  readonly #holdings: Holdings;
  readonly #rebalance: Rebalance;
  readonly #turn: Turn;

  constructor(holdings: Holdings, rebalance: Rebalance, turn: Turn, task: TaskRoom) {
    this.#holdings = holdings;
    this.#rebalance = rebalance;
    this.#turn = turn;
    this.agreement = new Agreement(this.roster, task);
  }

  load(row: MemberRow, nowMs: number): void {
    this.#begin(this.roster.admit(row), nowMs);
    this.agreement.changed(null, row);
  }

  /** @returns the refusal; null: the join is accepted. */
  join(input: JoinInput, nowMs: number): Refusal | null {
    const topicIds = ascending(input.member.topicIds);
    const joining = { ...input.member, topicIds };
    const member = this.roster.find(joining.memberId);
    const instance = this.roster.findInstance(joining.instanceId);
    // An earlier input of the step may have removed the member, or let another process replace it.
    if (input.returning === true && member === undefined) return gone(joining.memberId, instance !== undefined);
    const refusal = this.#refusal(joining, member, instance);
    if (refusal !== null) return refusal;
    if (member !== undefined) this.#change(member, input, { ...joining, joinSeq: member.row.joinSeq }, nowMs);
    else if (instance !== undefined)
      this.#replace(instance, input, { ...joining, joinSeq: instance.row.joinSeq }, nowMs);
    else this.#admit(input, { ...joining, joinSeq: this.roster.joinSeqNext }, nowMs);
    return null;
  }

  remove(member: Member, reason: RemovalReason, nowMs: number): void {
    const { memberId } = member.row;
    const joined = this.joins.get(memberId);
    this.joins.delete(memberId);
    this.#turn.memberTouched(memberId, member.row);
    this.#turn.removed(member, reason);
    this.roster.remove(member);
    this.agreement.changed(member.row, null);
    this.#holdings.freeAll(member);
    // A member that joins and leaves between two rebalances changes nothing for the others.
    if (joined?.before !== null) this.changed = true;
    this.#rebalance.call(removalCause[reason], memberId, nowMs);
  }

  alive(memberId: MemberId, revoked: readonly PartitionRef[], nowMs: number): void {
    const member = this.roster.find(memberId);
    if (member === undefined) return;
    this.#renew(member, nowMs);
    for (const ref of revoked) {
      const partition = this.#holdings.find(ref);
      if (partition?.holder === member) this.#holdings.release(partition);
    }
  }

  progress(memberId: MemberId, busySinceMs: number | null, nowMs: number): void {
    const member = this.roster.find(memberId);
    if (member === undefined) return;
    member.progress(busySinceMs ?? nowMs);
    this.wakeMs = Math.min(this.wakeMs, member.pollDeadlineMs);
    if (!member.stalled) return;
    member.stalled = false;
    this.#rebalance.call('MEMBER_RESUMED', memberId, nowMs);
  }

  /** Ends expired sessions, and takes the partitions of members without progress. */
  expire(nowMs: number): void {
    this.wakeMs = Infinity;
    for (const member of this.roster) {
      if (member.deadlineMs <= nowMs) {
        this.remove(member, 'SESSION_TIMEOUT', nowMs);
        continue;
      }
      if (member.pollDeadlineMs <= nowMs) this.#stall(member, nowMs);
      this.wakeMs = Math.min(this.wakeMs, member.deadlineMs, member.pollDeadlineMs);
    }
  }

  /** After a load: removes the members whose streams died with their broker. */
  removeStreamBound(nowMs: number): void {
    for (const member of this.roster) {
      if (member.row.sessionTimeoutMs === null) this.remove(member, 'STREAM_LOST', nowMs);
    }
  }

  /**
   * Rolls back joins and changes since the last rebalance; they count as signs of life. @returns
   * them.
   */
  undoJoins(nowMs: number): JoinInput[] {
    const undone = Array.from(this.joins, ([memberId, { inputs, before }]) => {
      const member = this.roster.find(memberId);
      if (member !== undefined) this.#undo(member, before, nowMs);
      return inputs;
    });
    this.joins.clear();
    this.#rebalance.withdraw('MEMBER_JOINED');
    if (!this.#heirChanged) this.#rebalance.withdraw('MEMBER_CHANGED');
    return undone.flat();
  }

  #undo(member: Member, before: MemberRow | null, nowMs: number): void {
    if (before === null) {
      this.#turn.neverWas(member);
      this.roster.remove(member);
      this.agreement.changed(member.row, null);
      return;
    }
    this.agreement.changed(member.row, before);
    member.row = before;
    // The deadlines must be those of the restored row: the other row may have had none.
    this.#begin(member, nowMs);
  }

  /** A rebalance has included every change up to here. */
  seen(): void {
    this.joins.clear();
    this.changed = this.#heirChanged = false;
  }

  #refusal(joining: JoinInput['member'], member: Member | undefined, instance: Member | undefined): Refusal | null {
    if (member !== undefined && member.row.instanceId !== joining.instanceId) {
      const message = `member "${joining.memberId}" joined with another instance id, which is fixed`;
      return { reason: 'INSTANCE_ID_IN_USE', message };
    }
    const { agreement } = this;
    const replaced = member ?? instance;
    if (!agreement.includes(joining.clientAssignors, replaced)) {
      return { reason: 'INCONSISTENT_PROTOCOLS', message: inconsistent(joining.clientAssignors) };
    }
    if (joining.clientAssignors.length === 0) return null;
    // The leader must be able to read what all members tell it.
    const bytes = agreement.bytesWith(joining, replaced);
    return bytes <= agreement.bytesMax ? null : taskTooLarge(bytes, agreement.bytesMax);
  }

  #admit(input: JoinInput, row: MemberRow, nowMs: number): void {
    this.#turn.memberTouched(row.memberId, null);
    this.joins.set(row.memberId, { inputs: [input], before: null });
    this.#begin(this.roster.admit(row), nowMs);
    this.agreement.changed(null, row);
    this.#rebalance.call('MEMBER_JOINED', row.memberId, nowMs);
  }

  #change(member: Member, input: JoinInput, row: MemberRow, nowMs: number): void {
    const before = member.row;
    const joined = this.joins.get(row.memberId);
    joined?.inputs.push(input);
    if (!sameMemberRow(before, row)) {
      this.#turn.memberTouched(row.memberId, before);
      member.row = row;
      this.agreement.changed(before, row);
    }
    this.#renew(member, nowMs);
    // A leader's join for its task is not progress on the records that it holds.
    if (sameOptions(before, row)) return;
    if (joined === undefined) this.joins.set(row.memberId, { inputs: [input], before });
    this.#rebalance.call('MEMBER_CHANGED', row.memberId, nowMs);
    this.progress(row.memberId, nowMs, nowMs);
  }

  /**
   * A new process of the same instance takes over the partitions of the old one, which is fenced.
   */
  #replace(old: Member, input: JoinInput, row: MemberRow, nowMs: number): void {
    const joined = this.joins.get(old.row.memberId);
    this.joins.delete(old.row.memberId);
    const sameAsSeen = joined === undefined && sameOptions(old.row, row);
    if (joined?.before === null) this.joins.set(row.memberId, { inputs: [...joined.inputs, input], before: null });
    // No rebalance has included the changes of the old process either.
    else if (!sameAsSeen) this.changed = this.#heirChanged = true;
    this.#turn.memberTouched(old.row.memberId, old.row);
    this.#turn.memberTouched(row.memberId, null);
    const member = this.roster.replace(old, row);
    this.agreement.changed(old.row, row);
    this.#turn.replaced(old, member);
    this.#holdings.pass(old, member);
    this.#begin(member, nowMs);
    if (old.stalled) this.#rebalance.call('MEMBER_RESUMED', row.memberId, nowMs);
    if (!sameAsSeen) this.#rebalance.call('MEMBER_CHANGED', row.memberId, nowMs);
  }

  #begin(member: Member, nowMs: number): void {
    member.progress(nowMs);
    this.wakeMs = Math.min(this.wakeMs, member.pollDeadlineMs);
    this.#renew(member, nowMs);
  }

  #renew(member: Member, nowMs: number): void {
    member.renew(nowMs);
    this.wakeMs = Math.min(this.wakeMs, member.deadlineMs);
  }

  /** The member showed no progress when it was checked. */
  #stall(member: Member, nowMs: number): void {
    if (member.held.size === 0) {
      member.progress(nowMs);
      return;
    }
    member.stalled = true;
    member.pollDeadlineMs = Infinity;
    this.#holdings.takeAll(member);
    // The member may resume before the rebalance and get its partitions back. They need a later
    // generation then, or its late acks would count.
    this.changed = true;
    this.#rebalance.call('MAX_POLL_INTERVAL', member.row.memberId, nowMs);
  }
}

/** A thousand joins have a thousand lists, and nearly all of them are ascending already. */
function ascending(topicIds: readonly number[]): readonly number[] {
  const isAscending = topicIds.every((topicId, at) => at === 0 || topicId > (topicIds[at - 1] ?? topicId));
  return isAscending ? topicIds.slice() : [...new Set(topicIds)].sort((a, b) => a - b);
}

function taskTooLarge(bytes: number, bytesMax: number): Refusal {
  const message = `the members of this group would tell their leader ${bytes} bytes, more than ${bytesMax}`;
  return { reason: 'TASK_TOO_LARGE', message };
}

function gone(memberId: MemberId, isReplaced: boolean): Refusal {
  return isReplaced
    ? { reason: 'INSTANCE_FENCED', message: instanceFenced({ memberId }).message }
    : { reason: 'MEMBER_UNKNOWN', message: memberFenced({ memberId }).message };
}

function inconsistent(clientAssignors: readonly string[]): string {
  return clientAssignors.length === 0
    ? 'the members of this group assign partitions by themselves: join by JoinGroup with client_assignors that they share'
    : 'client_assignors has no rule that all members of this group have';
}
