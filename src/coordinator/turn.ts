import { present } from '../errors/present.ts';
import { sameMemberRow, type Member, type Partition } from './member.ts';
import type { AssignmentRow, GroupChange, MemberId, MemberRow, PartitionRef, RebalanceRow } from './snapshot.ts';
import type { GroupEffect, RemovalReason } from './step.ts';

/**
 * Collects the changes of a step and writes them out as effects at its end: first the durable
 * changes, then members gone, partitions taken, revoked and given. A reader of the effects thus
 * never sees a partition with two members, in whatever order the inputs came. A group that gathers
 * changes leaves its turn open for the next step.
 */
export class Turn {
  #generation: number;
  #quiet = true;
  /** Each once, with its row before in itself: a map of 100,000 partitions takes 50 ms more. */
  #touchedPartitions: Partition[] = [];
  /** By which a partition knows that it is among those. */
  #touches = {};
  /** By id the row before the step; null: there was none. */
  readonly #rowsBefore = new Map<MemberId, MemberRow | null>();
  /** In the order of their leaving: a replacement may be gone too. */
  readonly #gone = new Map<Member, { readonly reason: RemovalReason } | { readonly heir: Member }>();
  readonly #revoked = new Gathered(0);
  readonly #stalled = new Gathered(1);
  readonly #revoking = new Gathered(2);
  /** For each member of `#revoking`. */
  readonly #deadlinesMs: number[] = [];
  readonly #assigned = new Gathered(3);
  readonly #said: GroupEffect[] = [];
  #rebalances: RebalanceRow[] = [];
  /** Partitions given to a member, without those whose revocation was called off. */
  assignedCount = 0;
  /** Partitions taken from a member that stays. */
  revokedCount = 0;

  constructor(generation: number) {
    this.#generation = generation;
  }

  /** A member's row is about to change from this one. */
  memberTouched(memberId: MemberId, before: MemberRow | null): void {
    this.#quiet = false;
    if (!this.#rowsBefore.has(memberId)) this.#rowsBefore.set(memberId, before);
  }

  /** The holder of a partition is about to change. */
  partitionTouched(partition: Partition): void {
    this.#quiet = false;
    if (partition.touchedIn === this.#touches) return;
    partition.touchedIn = this.#touches;
    partition.memberBefore = partition.holder?.row.memberId ?? null;
    partition.generationBefore = partition.sinceGeneration;
    this.#touchedPartitions.push(partition);
  }

  removed(member: Member, reason: RemovalReason): void {
    this.#gone.set(member, { reason });
  }

  /**
   * Partitions taken from the old member are reported to the new one, because the old one is gone.
   */
  replaced(old: Member, member: Member): void {
    this.#gone.set(old, { heir: member });
    this.#revoked.pass(old, member);
    this.#stalled.pass(old, member);
  }

  /** Undoes the join of the member and of those that it replaced. */
  neverWas(member: Member): void {
    for (const [old, gone] of this.#gone) {
      if (!('heir' in gone) || gone.heir !== member) continue;
      this.#gone.delete(old);
      this.neverWas(old);
    }
  }

  revoked(member: Member, ref: PartitionRef, stalled: boolean): void {
    (stalled ? this.#stalled : this.#revoked).add(member, ref);
    this.revokedCount++;
  }

  /** An effect that stands by itself. */
  say(effect: Extract<GroupEffect, { type: 'assignorFailed' }>): void {
    this.#quiet = false;
    this.#said.push(effect);
  }

  rebalanced(rebalance: RebalanceRow): void {
    this.#quiet = false;
    this.#rebalances.push(rebalance);
  }

  revoking(member: Member, ref: PartitionRef, deadlineMs: number): void {
    this.#quiet = false;
    if (this.#revoking.add(member, ref)) this.#deadlinesMs.push(deadlineMs);
  }

  assigned(member: Member, ref: PartitionRef): void {
    this.#quiet = false;
    this.assignedCount++;
    this.#assigned.add(member, ref);
  }

  /** Calls off the revocation of the partition. */
  kept(member: Member, ref: PartitionRef): void {
    this.#quiet = false;
    this.#assigned.add(member, ref);
  }

  /** The effects of the step; the turn is empty again afterwards. */
  finish(generation: number, rowNow: (memberId: MemberId) => MemberRow | null): GroupEffect[] {
    // A heartbeat ends here. It must cost no more than the look-up of its member.
    if (this.#quiet && generation === this.#generation) return [];
    const effects = [...this.#persist(generation, rowNow), ...this.#announce(generation)];
    this.#generation = generation;
    this.#quiet = true;
    this.#touchedPartitions = [];
    this.#touches = {};
    for (const changed of [this.#rowsBefore, this.#gone, this.#revoked, this.#stalled]) changed.clear();
    for (const changed of [this.#revoking, this.#assigned]) changed.clear();
    this.#said.length = this.#deadlinesMs.length = this.assignedCount = this.revokedCount = 0;
    this.#rebalances = [];
    return effects;
  }

  #persist(generation: number, rowNow: (memberId: MemberId) => MemberRow | null): GroupEffect[] {
    const rebalances = this.#rebalances;
    const change: GroupChange = { generation, ...this.#memberChange(rowNow), ...this.#assignmentChange(), rebalances };
    const { putMembers, removedMembers, putAssignments, removedAssignments } = change;
    const members = putMembers.length + removedMembers.length;
    const size = members + putAssignments.length + removedAssignments.length + rebalances.length;
    return size === 0 && generation === this.#generation ? [] : [{ type: 'persist', change }];
  }

  #memberChange(rowNow: (memberId: MemberId) => MemberRow | null): Pick<GroupChange, 'putMembers' | 'removedMembers'> {
    const putMembers: MemberRow[] = [];
    const removedMembers: MemberId[] = [];
    for (const [memberId, before] of this.#rowsBefore) {
      const now = rowNow(memberId);
      if (now === null) {
        if (before !== null) removedMembers.push(memberId);
      } else if (before === null || !sameMemberRow(before, now)) {
        putMembers.push(now);
      }
    }
    return { putMembers, removedMembers };
  }

  #assignmentChange(): Pick<GroupChange, 'putAssignments' | 'removedAssignments'> {
    const putAssignments: AssignmentRow[] = [];
    const removedAssignments: PartitionRef[] = [];
    for (const partition of this.#touchedPartitions) {
      const { memberBefore, generationBefore } = partition;
      partition.memberBefore = null;
      const row = partition.row();
      if (row === null) removedAssignments.push(partition.ref);
      // The row is unchanged if two processes of one instance have replaced each other.
      else if (row.memberId !== memberBefore || row.sinceGeneration !== generationBefore) putAssignments.push(row);
    }
    return { putAssignments, removedAssignments: except(removedAssignments, putAssignments) };
  }

  #announce(generation: number): GroupEffect[] {
    const effects: GroupEffect[] = [...this.#said];
    for (const [{ row }, gone] of this.#gone) {
      const { memberId } = row;
      if ('heir' in gone) effects.push({ type: 'replaced', memberId: gone.heir.row.memberId, oldMemberId: memberId });
      else effects.push({ type: 'removed', memberId, reason: gone.reason });
    }
    effects.push(...this.#taken(this.#stalled, true), ...this.#taken(this.#revoked, false));
    for (const [at, { memberId, partitions }] of this.#revoking.lists().entries()) {
      const deadlineMs = present(this.#deadlinesMs[at], 'each revoking member has a deadline');
      effects.push({ type: 'revoking', memberId, generation, partitions, deadlineMs });
    }
    for (const { memberId, partitions } of this.#assigned.lists()) {
      effects.push({ type: 'assigned', memberId, generation, added: partitions });
    }
    for (const rebalance of this.#rebalances) effects.push({ type: 'rebalanced', rebalance });
    return effects;
  }

  #taken(from: Gathered, stalled: boolean): GroupEffect[] {
    return from.lists().flatMap(({ member, memberId, partitions }) => {
      // A removed member has lost everything, so a second message about some of it would be noise.
      return this.#gone.has(member) ? [] : [{ type: 'revoked', memberId, partitions, stalled }];
    });
  }
}

/**
 * Partitions of members, in the order in which the members came. A member keeps the list of its own
 * while the turn is open, because a map would be asked for every partition that moves.
 */
class Gathered {
  readonly #slot: number;
  #members: Member[] = [];

  constructor(slot: number) {
    this.#slot = slot;
  }

  /** @returns whether it is the first partition of the member. */
  add(member: Member, ref: PartitionRef): boolean {
    const list = member.gathered?.[this.#slot];
    if (list) {
      list.push(ref);
      return false;
    }
    member.gathered ??= [null, null, null, null];
    member.gathered[this.#slot] = [ref];
    this.#members.push(member);
    return true;
  }

  pass(old: Member, member: Member): void {
    const list = old.gathered?.[this.#slot];
    if (!list) return;
    member.gathered ??= [null, null, null, null];
    member.gathered[this.#slot] = list;
    if (old.gathered !== null) old.gathered[this.#slot] = null;
    this.#members = [...this.#members.filter((one) => one !== old), member];
  }

  lists(): { readonly member: Member; readonly memberId: MemberId; readonly partitions: readonly PartitionRef[] }[] {
    return this.#members.map((member) => {
      return { member, memberId: member.row.memberId, partitions: member.gathered?.[this.#slot] ?? [] };
    });
  }

  clear(): void {
    for (const { gathered } of this.#members) if (gathered !== null) gathered[this.#slot] = null;
    this.#members.length = 0;
  }
}

/** A topic dropped and named again in one step has new partitions: the new rows replace the old. */
function except(removed: PartitionRef[], put: readonly PartitionRef[]): PartitionRef[] {
  if (removed.length === 0 || put.length === 0) return removed;
  const key = ({ topicId, partition }: PartitionRef): string => `${topicId}/${partition}`;
  const topicIds = new Set(removed.map(({ topicId }) => topicId));
  const kept = new Set(put.filter(({ topicId }) => topicIds.has(topicId)).map(key));
  return removed.filter((ref) => !kept.has(key(ref)));
}
