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
  readonly #revoked = new Map<Member, PartitionRef[]>();
  readonly #stalled = new Map<Member, PartitionRef[]>();
  readonly #revoking = new Map<Member, { readonly partitions: PartitionRef[]; readonly deadlineMs: number }>();
  readonly #assigned = new Map<Member, PartitionRef[]>();
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
    partition.rowBefore = partition.row();
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
    for (const taken of [this.#revoked, this.#stalled]) {
      const partitions = taken.get(old);
      if (partitions !== undefined) taken.set(member, partitions);
      taken.delete(old);
    }
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
    append(stalled ? this.#stalled : this.#revoked, member, ref);
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
    const known = this.#revoking.get(member);
    if (known === undefined) this.#revoking.set(member, { partitions: [ref], deadlineMs });
    else known.partitions.push(ref);
  }

  assigned(member: Member, ref: PartitionRef): void {
    this.#quiet = false;
    this.assignedCount++;
    append(this.#assigned, member, ref);
  }

  /** Calls off the revocation of the partition. */
  kept(member: Member, ref: PartitionRef): void {
    this.#quiet = false;
    append(this.#assigned, member, ref);
  }

  /** The effects of the step; the turn is empty again afterwards. */
  finish(generation: number, rowNow: (memberId: MemberId) => MemberRow | null): GroupEffect[] {
    // A heartbeat ends here. It must cost no more than the look-up of its member.
    if (this.#quiet && generation === this.#generation) return [];
    const effects = [...this.#persist(generation, rowNow), ...this.#announce(generation)];
    this.#generation = generation;
    this.#quiet = true;
    for (const partition of this.#touchedPartitions) partition.rowBefore = null;
    this.#touchedPartitions = [];
    this.#touches = {};
    for (const gathered of [this.#rowsBefore, this.#gone, this.#stalled]) gathered.clear();
    for (const gathered of [this.#revoked, this.#revoking, this.#assigned]) gathered.clear();
    this.#said.length = this.assignedCount = this.revokedCount = 0;
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
      const { rowBefore: before } = partition;
      const row = partition.row();
      if (row === null) removedAssignments.push(partition.ref);
      // The row is unchanged if two processes of one instance have replaced each other.
      else if (row.memberId !== before?.memberId || row.sinceGeneration !== before.sinceGeneration)
        putAssignments.push(row);
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
    for (const [{ row }, { partitions, deadlineMs }] of this.#revoking) {
      effects.push({ type: 'revoking', memberId: row.memberId, generation, partitions, deadlineMs });
    }
    for (const [{ row }, added] of this.#assigned) {
      effects.push({ type: 'assigned', memberId: row.memberId, generation, added });
    }
    for (const rebalance of this.#rebalances) effects.push({ type: 'rebalanced', rebalance });
    return effects;
  }

  #taken(from: ReadonlyMap<Member, readonly PartitionRef[]>, stalled: boolean): GroupEffect[] {
    return Array.from(from).flatMap(([member, partitions]) => {
      // A removed member has lost everything, so a second message about some of it would be noise.
      if (this.#gone.has(member)) return [];
      return [{ type: 'revoked', memberId: member.row.memberId, partitions, stalled }];
    });
  }
}

/** A topic dropped and named again in one step has new partitions: the new rows replace the old. */
function except(removed: PartitionRef[], put: readonly PartitionRef[]): PartitionRef[] {
  if (removed.length === 0 || put.length === 0) return removed;
  const key = ({ topicId, partition }: PartitionRef): string => `${topicId}/${partition}`;
  const kept = new Set(put.map(key));
  return removed.filter((ref) => !kept.has(key(ref)));
}

function append<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}
