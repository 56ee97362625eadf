import type { AssignorName, Assignors } from './assignors/assignor.ts';
import { builtInAssignors } from './assignors/built-in.ts';
import { sticky } from './assignors/sticky.ts';
import { Member, sameMemberRow, sameTopics } from './member.ts';
import { Topic, type Partition } from './partition.ts';
import type { AssignmentRow, GroupSnapshot, MemberId, MemberRow, PartitionRef } from './snapshot.ts';
import type { GroupEffect, GroupInput, GroupState, Holder, RemovalReason } from './step.ts';
import { retarget } from './target.ts';
import { Turn } from './turn.ts';

export type { AssignorName } from './assignors/assignor.ts';
export type {
  AssignmentRow,
  GroupChange,
  GroupSnapshot,
  MemberId,
  MemberKind,
  MemberRow,
  PartitionRef,
} from './snapshot.ts';

export type { GroupEffect, GroupInput, GroupState, Holder, RemovalReason } from './step.ts';

export interface GroupOptions {
  readonly assignors?: Assignors;
}

/**
 * The coordinator of one consumer group. Deterministic, without I/O and without a clock; SPEC.md beside it is its full
 * description, with the test that enforces each invariant.
 *
 * ```
 *              join                      join · leave · topic · timeout,
 *   EMPTY ─────────────▶ STABLE ───────────────────────────────────────▶ RECONCILING
 *     ▲                  │   ▲      a partition has to leave a live member     │  │
 *     │  the last member │   └─────────────────────────────────────────────────┘  │
 *     ├──────────────────┘      the last of them is drained, confirmed, due,      │
 *     │                         or may stay after all                             │
 *     └───────────────────────────────────────────────────────────────────────────┘
 * ```
 *
 *   one partition:   free ──given──▶ held ──asked back──▶ revoking ──drained · confirmed · due · left──▶ free
 *                                     ▲                       │
 *                                     └────may stay after all─┘
 *
 *  1. A partition has at most one holder, and the holder is a member.
 *  2. It passes from a live member to another only by way of `revoking`; from a member that is gone at once.
 *  3. A partition that stays is not touched: same holder, same sinceGeneration, no effect.
 *  4. After a step every partition that somebody reads has a holder; when STABLE, the one that the assignor chose.
 *  5. The generation rises by one in a step that changes members or targets, else not at all.
 *  6. Whoever gets a partition a second time gets it with a later sinceGeneration than the first time.
 *  7. What is durable is exactly the sum of all `persist` effects; a step that changes nothing durable has none.
 *  8. The effects alone tell who holds what and what is being revoked.
 *  9. Signs of life touch nothing durable and cost the same in every group.
 */
export class Group {
  #generation: number;
  /** In the order of joining. */
  readonly #members = new Map<MemberId, Member>();
  readonly #topics = new Map<number, Topic>();
  readonly #revoking = new Set<Partition>();
  readonly #assignors: Assignors;
  readonly #turn: Turn;
  #joinSeqNext = 0;
  /** No deadline is earlier. Deadlines move away with each heartbeat, and looking for the earliest each time would cost n. */
  #wakeMs = Infinity;
  /** Freshly loaded: nobody has said yet which topics there are. */
  #fresh = true;
  #membersChanged = false;
  /** The targets may be wrong. */
  #stale = true;
  /** Partitions that lost their holder in this step. */
  readonly #freed = new Set<Partition>();

  /**
   * Takes a group over as it was left. Members with a session have one full timeout from now to return. The first step
   * removes members without one, whose streams died with their broker, and must name every topic of the group: partitions
   * of others are taken from their holders.
   */
  constructor(snapshot: GroupSnapshot, nowMs: number, options: GroupOptions = {}) {
    this.#generation = snapshot.generation;
    this.#assignors = options.assignors ?? builtInAssignors;
    this.#turn = new Turn(snapshot.generation);
    for (const row of [...snapshot.members].sort((a, b) => a.joinSeq - b.joinSeq)) this.#admit(row, nowMs);
    for (const row of snapshot.assignments) this.#load(row);
  }

  /**
   * Takes the inputs in order, then rebalances once if they, or deadlines that have passed, call for it. A sign of life
   * that comes in the same step as the end of the session still counts: it is the timer that was early.
   */
  step(inputs: readonly GroupInput[], nowMs: number): GroupEffect[] {
    if (this.#fresh) this.#removeStreamBound();
    for (const input of inputs) this.#take(input, nowMs);
    if (this.#fresh) this.#dropUnnamedTopics();
    this.#fresh = false;
    if (nowMs >= this.#wakeMs) this.#expire(nowMs);
    if (this.#stale) this.#rebalance(nowMs);
    this.#giveFreed();
    return this.#turn.finish(this.#generation, (memberId) => this.#members.get(memberId)?.row ?? null);
  }

  /** No deadline is before this time; null: there is none. A `tick` that finds nothing due changes nothing. */
  nextDeadlineMs(): number | null {
    return this.#wakeMs === Infinity ? null : this.#wakeMs;
  }

  get generation(): number {
    return this.#generation;
  }

  /** That of the member that joined first. */
  get assignor(): AssignorName {
    for (const member of this.#members.values()) return member.row.assignor;
    return 'sticky';
  }

  state(): GroupState {
    if (this.#members.size === 0) return 'EMPTY';
    return this.#revoking.size > 0 ? 'RECONCILING' : 'STABLE';
  }

  member(memberId: MemberId): MemberRow | undefined {
    return this.#members.get(memberId)?.row;
  }

  /** In the order of joining. */
  members(): MemberRow[] {
    return Array.from(this.#members.values(), (member) => member.row);
  }

  holder(ref: PartitionRef): Holder | undefined {
    const partition = this.#partition(ref);
    if (partition === undefined || partition.holder === null) return undefined;
    const { holder, sinceGeneration, revokeDeadlineMs } = partition;
    return { memberId: holder.row.memberId, sinceGeneration, revoking: revokeDeadlineMs !== null };
  }

  /** All partitions that the member holds, also those it is asked to give back; by topic and partition. */
  partitionsOf(memberId: MemberId): PartitionRef[] {
    return refs(this.#members.get(memberId)?.held ?? []);
  }

  /** Those of its partitions that the member is asked to give back; by topic and partition. */
  revokingOf(memberId: MemberId): PartitionRef[] {
    const held = this.#members.get(memberId)?.held ?? [];
    return refs(Array.from(held).filter((partition) => partition.revokeDeadlineMs !== null));
  }

  /** Whether partitions are still to come to the member in this generation: other members have to give them back first. */
  awaits(memberId: MemberId): boolean {
    const member = this.#members.get(memberId);
    for (const partition of this.#revoking) if (partition.target === member) return true;
    return false;
  }

  /** What is durable once all changes so far are. */
  snapshot(): GroupSnapshot {
    const assignments: AssignmentRow[] = [];
    for (const topic of this.#topicsById()) {
      for (const partition of topic.partitions) {
        const row = partition.row();
        if (row !== null) assignments.push(row);
      }
    }
    return { generation: this.#generation, members: this.members(), assignments };
  }

  #take(input: GroupInput, nowMs: number): void {
    switch (input.type) {
      case 'join':
        this.#join(input.member, nowMs);
        return;
      case 'leave':
        this.#remove(this.#members.get(input.memberId), input.reason);
        return;
      case 'alive':
        this.#alive(input.memberId, input.revoked, nowMs);
        return;
      case 'drained':
        this.#release(this.#partition(input.partition));
        return;
      case 'topic':
        this.#resize(input.topicId, input.partitions);
        return;
      case 'tick':
        return;
    }
  }

  #join(joining: Omit<MemberRow, 'joinSeq'>, nowMs: number): void {
    const topicIds = [...new Set(joining.topicIds)].sort((a, b) => a - b);
    const member = this.#members.get(joining.memberId);
    if (member === undefined) {
      this.#turn.memberTouched(joining.memberId, null);
      this.#admit({ ...joining, topicIds, joinSeq: this.#joinSeqNext }, nowMs);
      this.#membersChanged = this.#stale = true;
      return;
    }
    const before = member.row;
    const row = { ...joining, topicIds, joinSeq: before.joinSeq };
    if (!sameMemberRow(before, row)) {
      this.#turn.memberTouched(joining.memberId, before);
      member.row = row;
      if (before.assignor !== row.assignor || !sameTopics(before.topicIds, topicIds)) this.#stale = true;
    }
    this.#renew(member, nowMs);
  }

  #admit(row: MemberRow, nowMs: number): void {
    const member = new Member(row);
    this.#members.set(row.memberId, member);
    this.#joinSeqNext = row.joinSeq + 1;
    this.#renew(member, nowMs);
  }

  #alive(memberId: MemberId, revoked: readonly PartitionRef[], nowMs: number): void {
    const member = this.#members.get(memberId);
    if (member === undefined) return;
    this.#renew(member, nowMs);
    for (const ref of revoked) {
      const partition = this.#partition(ref);
      if (partition?.holder === member) this.#release(partition);
    }
  }

  #renew(member: Member, nowMs: number): void {
    member.renew(nowMs);
    this.#wakeMs = Math.min(this.#wakeMs, member.deadlineMs);
  }

  #remove(member: Member | undefined, reason: RemovalReason): void {
    if (member === undefined) return;
    this.#turn.memberTouched(member.row.memberId, member.row);
    this.#turn.removed(member, reason);
    this.#members.delete(member.row.memberId);
    for (const partition of member.held) this.#free(partition);
    this.#membersChanged = this.#stale = true;
  }

  /** A partition that is being revoked is given back. One that is not stays: the word is late, or a mistake. */
  #release(partition: Partition | undefined): void {
    if (partition === undefined || partition.revokeDeadlineMs === null) return;
    this.#takeAway(partition);
  }

  #takeAway(partition: Partition): void {
    if (partition.holder !== null) this.#turn.revoked(partition.holder, partition.ref);
    this.#free(partition);
  }

  #free(partition: Partition): void {
    this.#turn.partitionTouched(partition);
    this.#revoking.delete(partition);
    partition.letGo();
    this.#freed.add(partition);
  }

  #resize(topicId: number, count: number): void {
    const topic = this.#topic(topicId);
    topic.named = true;
    if (topic.partitions.length === count) return;
    this.#stale = true;
    // What comes back under the same number is another partition: it must get a generation of its own (invariant 6).
    for (const partition of topic.partitions.splice(count)) {
      if (partition.holder !== null) this.#takeAway(partition);
    }
    topic.grow(count);
    if (count === 0) this.#topics.delete(topicId);
  }

  #expire(nowMs: number): void {
    this.#wakeMs = Infinity;
    for (const member of this.#members.values()) {
      if (member.deadlineMs <= nowMs) this.#remove(member, 'SESSION_TIMEOUT');
      else this.#wakeMs = Math.min(this.#wakeMs, member.deadlineMs);
    }
    for (const partition of this.#revoking) {
      const deadlineMs = partition.revokeDeadlineMs ?? Infinity;
      if (deadlineMs <= nowMs) this.#release(partition);
      else this.#wakeMs = Math.min(this.#wakeMs, deadlineMs);
    }
  }

  #rebalance(nowMs: number): void {
    const topics = this.#topicsById();
    // A member may have brought its assignor from a broker that had one which this one has not.
    const assignor = this.#assignors.get(this.assignor) ?? sticky;
    const changed = retarget(assignor, [...this.#members.values()], topics);
    if (changed || this.#membersChanged) this.#generation++;
    this.#membersChanged = this.#stale = false;
    this.#freed.clear();
    for (const topic of topics) for (const partition of topic.partitions) this.#reconcile(partition, nowMs);
  }

  /** Brings one partition a step nearer to its target: keep, revoke or give. */
  #reconcile(partition: Partition, nowMs: number): void {
    const { holder, target, revokeDeadlineMs } = partition;
    if (holder === target) {
      if (holder !== null && revokeDeadlineMs !== null) this.#keepAfterAll(partition, holder);
    } else if (holder === null) {
      this.#freed.add(partition);
    } else if (revokeDeadlineMs === null) {
      this.#askBack(partition, holder, nowMs);
    }
  }

  #keepAfterAll(partition: Partition, holder: Member): void {
    partition.revokeDeadlineMs = null;
    this.#revoking.delete(partition);
    this.#turn.assigned(holder, partition.ref);
  }

  #askBack(partition: Partition, holder: Member, nowMs: number): void {
    const deadlineMs = nowMs + holder.row.rebalanceTimeoutMs;
    partition.revokeDeadlineMs = deadlineMs;
    this.#revoking.add(partition);
    this.#wakeMs = Math.min(this.#wakeMs, deadlineMs);
    this.#turn.revoking(holder, partition.ref, deadlineMs);
  }

  #giveFreed(): void {
    for (const partition of this.#freed) {
      const { target } = partition;
      if (target === null) continue;
      partition.hold(target, this.#generation);
      this.#turn.partitionTouched(partition);
      this.#turn.assigned(target, partition.ref);
    }
    this.#freed.clear();
  }

  #load(row: AssignmentRow): void {
    const member = this.#members.get(row.memberId);
    if (member === undefined) throw new Error(`an assignment names "${row.memberId}", which is not a member`);
    const topic = this.#topic(row.topicId);
    topic.grow(row.partition + 1);
    const partition = topic.partitions[row.partition];
    if (partition === undefined) throw new Error(`an assignment names partition ${row.partition}`);
    partition.hold(member, row.sinceGeneration);
    partition.target = member;
  }

  #removeStreamBound(): void {
    for (const member of this.#members.values()) {
      if (member.row.sessionTimeoutMs === null) this.#remove(member, 'STREAM_LOST');
    }
  }

  #dropUnnamedTopics(): void {
    for (const topic of this.#topics.values()) if (!topic.named) this.#resize(topic.topicId, 0);
  }

  #topic(topicId: number): Topic {
    let topic = this.#topics.get(topicId);
    if (topic === undefined) {
      topic = new Topic(topicId);
      this.#topics.set(topicId, topic);
    }
    return topic;
  }

  #partition(ref: PartitionRef): Partition | undefined {
    return this.#topics.get(ref.topicId)?.partitions[ref.partition];
  }

  #topicsById(): Topic[] {
    return Array.from(this.#topics.values()).sort((a, b) => a.topicId - b.topicId);
  }
}

function refs(partitions: Iterable<Partition>): PartitionRef[] {
  const found = Array.from(partitions, (partition) => partition.ref);
  return found.sort((a, b) => a.topicId - b.topicId || a.partition - b.partition);
}
