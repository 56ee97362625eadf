import type { Member } from './member.ts';
import { Topic, type Partition } from './partition.ts';
import type { AssignmentRow, PartitionRef } from './snapshot.ts';
import type { Turn } from './turn.ts';

/**
 * Who holds which partition, and how one passes from a member to another. Where it is to go (`target`) is decided elsewhere.
 *
 * ```
 *   one partition:   free ──given──▶ held ──asked back──▶ revoking ──drained · confirmed · due · left──▶ free
 *                                     ▲                       │
 *                                     └────may stay after all─┘
 * ```
 */
export class Holdings {
  /** No partition is due to be taken earlier. */
  wakeMs = Infinity;
  readonly #topics = new Map<number, Topic>();
  readonly #revoking = new Set<Partition>();
  /** Partitions that lost their holder since they were last given out. */
  readonly #freed = new Set<Partition>();
  readonly #turn: Turn;

  constructor(turn: Turn) {
    this.#turn = turn;
  }

  /** Whether a member has to give something back. */
  get isRevoking(): boolean {
    return this.#revoking.size > 0;
  }

  /** Ascending by id. */
  topics(): Topic[] {
    return Array.from(this.#topics.values()).sort((a, b) => a.topicId - b.topicId);
  }

  /** Topics whose partitions may be given out; ascending by id. */
  givable(): Topic[] {
    return this.topics().filter(({ held }) => !held);
  }

  find(ref: PartitionRef): Partition | undefined {
    return this.#topics.get(ref.topicId)?.partitions[ref.partition];
  }

  rows(): AssignmentRow[] {
    return this.topics().flatMap(({ partitions }) => partitions.flatMap((partition) => partition.row() ?? []));
  }

  /** Whether a partition that is being given back is to come to the member. */
  awaitedBy(member: Member): boolean {
    for (const partition of this.#revoking) if (partition.target === member) return true;
    return false;
  }

  load(row: AssignmentRow, member: Member): void {
    const topic = this.#demand(row.topicId);
    topic.grow(row.partition + 1);
    const partition = topic.partitions[row.partition];
    if (partition === undefined) throw new Error(`an assignment names partition ${row.partition}`);
    partition.hold(member, row.sinceGeneration);
    partition.target = member;
  }

  /** Sets the number of a topic's partitions. @returns whether it is another one. */
  resize(topicId: number, count: number): boolean {
    const topic = this.#demand(topicId);
    topic.named = true;
    if (count === 0) this.#topics.delete(topicId);
    if (topic.partitions.length === count) return false;
    // What comes back under the same number is another partition: whoever gets it must get it with a later generation.
    for (const partition of topic.partitions.splice(count))
      if (partition.holder !== null) this.#takeAway(partition, false);
    topic.grow(count);
    return true;
  }

  /** After a load: takes the partitions of topics that nobody has named. */
  dropUnnamed(): void {
    for (const { topicId, named } of this.topics()) if (!named) this.resize(topicId, 0);
  }

  /** Nobody is to have a partition of the topic, or everybody may again. @returns whether that is new. */
  withhold(topicId: number, held: boolean): boolean {
    const topic = this.#topics.get(topicId);
    if (topic === undefined || topic.held === held) return false;
    topic.held = held;
    for (const partition of topic.partitions) partition.target = null;
    return true;
  }

  /** A partition that is being revoked is given back. One that is not stays: the word is late, or a mistake. */
  release(partition: Partition | undefined): void {
    if (partition === undefined || partition.revokeDeadlineMs === null) return;
    this.#takeAway(partition, false);
  }

  /** Everything that a live member holds is taken at once: it does not work on it. */
  takeAll(member: Member): void {
    for (const partition of member.held) this.#takeAway(partition, true);
  }

  /** The member is gone: what it held is free. */
  freeAll(member: Member): void {
    for (const partition of member.held) this.#free(partition);
  }

  /** Another member stands in the place of one: it holds what that held, since the same generations. */
  pass(from: Member, to: Member): void {
    for (const partition of from.held) {
      this.#turn.partitionTouched(partition);
      partition.hold(to, partition.sinceGeneration);
    }
    from.held.clear();
    for (const topic of this.#topics.values()) {
      for (const partition of topic.partitions) if (partition.target === from) partition.target = to;
    }
  }

  /** Brings every partition a step nearer to its target: keep, revoke, or put among those to be given. */
  reconcile(nowMs: number): void {
    this.#freed.clear();
    for (const topic of this.topics()) for (const partition of topic.partitions) this.#reconcile(partition, nowMs);
  }

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

  giveFreed(generation: number): void {
    // Most steps are heartbeats, and free nothing.
    if (this.#freed.size === 0) return;
    for (const partition of this.#freed) {
      const { target } = partition;
      if (target === null) continue;
      this.#turn.partitionTouched(partition);
      partition.hold(target, generation);
      this.#turn.assigned(target, partition.ref);
    }
    this.#freed.clear();
  }

  /** Takes what should have been given back by now. */
  expire(nowMs: number): void {
    this.wakeMs = Infinity;
    for (const partition of this.#revoking) {
      const deadlineMs = partition.revokeDeadlineMs ?? Infinity;
      if (deadlineMs <= nowMs) this.release(partition);
      else this.wakeMs = Math.min(this.wakeMs, deadlineMs);
    }
  }

  #keepAfterAll(partition: Partition, holder: Member): void {
    partition.revokeDeadlineMs = null;
    this.#revoking.delete(partition);
    this.#turn.kept(holder, partition.ref);
  }

  #askBack(partition: Partition, holder: Member, nowMs: number): void {
    partition.revokeDeadlineMs = nowMs + holder.row.rebalanceTimeoutMs;
    this.wakeMs = Math.min(this.wakeMs, partition.revokeDeadlineMs);
    this.#revoking.add(partition);
    this.#turn.revoking(holder, partition.ref, partition.revokeDeadlineMs);
  }

  #takeAway(partition: Partition, stalled: boolean): void {
    if (partition.holder !== null) this.#turn.revoked(partition.holder, partition.ref, stalled);
    this.#free(partition);
  }

  #free(partition: Partition): void {
    this.#turn.partitionTouched(partition);
    this.#revoking.delete(partition);
    partition.letGo();
    this.#freed.add(partition);
  }

  #demand(topicId: number): Topic {
    let topic = this.#topics.get(topicId);
    if (topic === undefined) {
      topic = new Topic(topicId);
      this.#topics.set(topicId, topic);
    }
    return topic;
  }
}
