import type { Member, Partition } from './member.ts';
import { Topic } from './topic.ts';
import type { AssignmentRow, PartitionRef } from './snapshot.ts';
import type { Turn } from './turn.ts';

/**
 * The holder of each partition, and how a partition moves. Its `target` is decided elsewhere.
 *
 * ```
 *   one partition:   free ──given──▶ held ──asked back──▶ revoking ──drained · confirmed · due · left──▶ free
 *                                     ▲                       │
 *                                     └────may stay after all─┘
 * ```
 */
export class Holdings {
  /** No revocation is due before this time. */
  wakeMs = Infinity;
  readonly #topics = new Map<number, Topic>();
  /** The number of partitions that are being revoked. */
  #revoking = 0;
  /** Partitions that lost their holder since partitions were last given, each once. */
  #freed: Partition[] = [];
  readonly #turn: Turn;

  constructor(turn: Turn) {
    this.#turn = turn;
  }

  /** Whether any partition is being revoked. */
  get isRevoking(): boolean {
    return this.#revoking > 0;
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

  load(row: AssignmentRow, member: Member): void {
    const topic = this.#demand(row.topicId);
    topic.grow(row.partition + 1);
    const partition = topic.partitions[row.partition];
    if (partition === undefined) throw new Error(`an assignment names partition ${row.partition}`);
    partition.hold(member, row.sinceGeneration);
    partition.target = member;
  }

  /** Sets the number of a topic's partitions. @returns whether it changed. */
  resize(topicId: number, count: number): boolean {
    const topic = this.#demand(topicId);
    topic.named = true;
    if (count === 0) this.#topics.delete(topicId);
    if (topic.partitions.length === count) return false;
    // A partition that reappears under the same number is a new one, so its generation must be
    // later.
    for (const partition of topic.partitions.splice(count))
      if (partition.holder !== null) this.#takeAway(partition, false);
    topic.grow(count);
    return true;
  }

  /** After a load: takes the partitions of topics that no input has named. */
  dropUnnamed(): void {
    for (const { topicId, named } of this.topics()) if (!named) this.resize(topicId, 0);
  }

  /**
   * Withholds the topic's partitions from all members, or releases them. @returns whether it
   * changed.
   */
  withhold(topicId: number, held: boolean): boolean {
    const topic = this.#topics.get(topicId);
    if (topic === undefined || topic.held === held) return false;
    topic.held = held;
    for (const partition of topic.partitions) partition.target = null;
    return true;
  }

  /** Frees a partition that is being revoked. Any other stays: the input is late, or a mistake. */
  release(partition: Partition | undefined): void {
    if (partition === undefined || partition.revokeDeadlineMs === null) return;
    this.#takeAway(partition, false);
  }

  /** Takes all partitions of a stalled member at once. */
  takeAll(member: Member): void {
    for (let next = member.held.first; next !== null; next = member.held.first) this.#takeAway(next, true);
  }

  /** Frees the partitions of a member that is gone. */
  freeAll(member: Member): void {
    for (let next = member.held.first; next !== null; next = member.held.first) this.#free(next);
  }

  /** Passes the partitions of a member to its replacement, with the same generations. */
  pass(from: Member, to: Member): void {
    to.succeed(from);
    for (let next = from.held.first; next !== null; next = from.held.first) {
      this.#turn.partitionTouched(next);
      next.hold(to, next.sinceGeneration);
    }
  }

  /** Moves each partition a step towards its target: keep, revoke, or give. */
  reconcile(nowMs: number): void {
    this.#takeFreed();
    for (const topic of this.topics()) for (const partition of topic.partitions) this.#reconcile(partition, nowMs);
  }

  #reconcile(partition: Partition, nowMs: number): void {
    const { holder, target, revokeDeadlineMs } = partition;
    if (holder === target) {
      if (holder !== null && revokeDeadlineMs !== null) this.#keepAfterAll(partition, holder);
    } else if (holder === null) {
      this.#addFreed(partition);
    } else if (revokeDeadlineMs === null) {
      this.#askBack(partition, holder, nowMs);
    }
  }

  giveFreed(generation: number): void {
    // Most steps are heartbeats, and free no partition.
    if (this.#freed.length === 0) return;
    for (const partition of this.#takeFreed()) {
      const { target } = partition;
      if (target === null) continue;
      this.#turn.partitionTouched(partition);
      partition.hold(target, generation);
      this.#turn.assigned(target, partition.ref);
    }
  }

  /** Takes the partitions whose revocation is overdue. */
  expire(nowMs: number): void {
    if (nowMs < this.wakeMs) return;
    this.wakeMs = Infinity;
    if (!this.isRevoking) return;
    for (const topic of this.topics()) {
      for (const partition of topic.partitions) {
        const { revokeDeadlineMs } = partition;
        if (revokeDeadlineMs === null) continue;
        if (revokeDeadlineMs <= nowMs) this.release(partition);
        else this.wakeMs = Math.min(this.wakeMs, revokeDeadlineMs);
      }
    }
  }

  #keepAfterAll(partition: Partition, holder: Member): void {
    partition.revokeDeadlineMs = null;
    this.#revoking--;
    this.#turn.kept(holder, partition.ref);
  }

  #askBack(partition: Partition, holder: Member, nowMs: number): void {
    partition.revokeDeadlineMs = nowMs + holder.row.rebalanceTimeoutMs;
    this.wakeMs = Math.min(this.wakeMs, partition.revokeDeadlineMs);
    this.#revoking++;
    this.#turn.revoking(holder, partition.ref, partition.revokeDeadlineMs);
  }

  #takeAway(partition: Partition, stalled: boolean): void {
    if (partition.holder !== null) this.#turn.revoked(partition.holder, partition.ref, stalled);
    this.#free(partition);
  }

  #free(partition: Partition): void {
    this.#turn.partitionTouched(partition);
    if (partition.revokeDeadlineMs !== null) this.#revoking--;
    partition.letGo();
    this.#addFreed(partition);
  }

  #addFreed(partition: Partition): void {
    if (partition.isFreed) return;
    partition.isFreed = true;
    this.#freed.push(partition);
  }

  #takeFreed(): readonly Partition[] {
    const freed = this.#freed;
    this.#freed = [];
    for (const partition of freed) partition.isFreed = false;
    return freed;
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
