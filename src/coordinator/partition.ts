import type { Member } from './member.ts';
import type { AssignmentRow, PartitionRef } from './snapshot.ts';

/**
 * The group's state of a partition. It has one slot for a holder, so two members can never hold it.
 */
export class Partition {
  readonly ref: PartitionRef;
  holder: Member | null = null;
  sinceGeneration = 0;
  /** The member that should have it, by the last rebalance. */
  target: Member | null = null;
  /** Set while the partition is being revoked: the time at which it is taken at the latest. */
  revokeDeadlineMs: number | null = null;

  constructor(ref: PartitionRef) {
    this.ref = ref;
  }

  hold(member: Member, sinceGeneration: number): void {
    this.holder = member;
    this.sinceGeneration = sinceGeneration;
    member.held.add(this);
  }

  letGo(): void {
    this.holder?.held.delete(this);
    this.holder = null;
    this.revokeDeadlineMs = null;
  }

  /** Its durable row; null without a holder. */
  row(): AssignmentRow | null {
    if (this.holder === null) return null;
    return { ...this.ref, memberId: this.holder.row.memberId, sinceGeneration: this.sinceGeneration };
  }
}

/** A topic of the group with its partitions. */
export class Topic {
  readonly topicId: number;
  readonly partitions: Partition[] = [];
  /** Whether an input has named the number of partitions. Until then only loaded rows are here. */
  named = false;
  /** Withheld from all members. */
  held = false;

  constructor(topicId: number) {
    this.topicId = topicId;
  }

  grow(count: number): void {
    for (let partition = this.partitions.length; partition < count; partition++) {
      this.partitions.push(new Partition({ topicId: this.topicId, partition }));
    }
  }
}
