import type { Member } from './member.ts';
import type { AssignmentRow, MemberId, PartitionRef } from './snapshot.ts';

/** A partition as the group keeps it. It has one slot for a holder, so two members can never hold it. */
export class Partition {
  readonly ref: PartitionRef;
  holder: Member | null = null;
  sinceGeneration = 0;
  /** Who should have it, by the last rebalance. */
  target: Member | null = null;
  /** Set while the holder is asked to give it back: when it is taken at the latest. */
  revokeDeadlineMs: number | null = null;
  /** The holder and generation of the last change that was handed out to be written. */
  #savedMemberId: MemberId | null = null;
  #savedGeneration = 0;

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

  row(): AssignmentRow | null {
    if (this.holder === null) return null;
    return { ...this.ref, memberId: this.holder.row.memberId, sinceGeneration: this.sinceGeneration };
  }

  /** What has to be written since the last call: a row, its removal, or nothing. */
  takeChange(): AssignmentRow | 'removed' | null {
    const row = this.row();
    const savedMemberId = this.#savedMemberId;
    if (row === null) {
      this.#savedMemberId = null;
      return savedMemberId === null ? null : 'removed';
    }
    if (row.memberId === savedMemberId && row.sinceGeneration === this.#savedGeneration) return null;
    this.#savedMemberId = row.memberId;
    this.#savedGeneration = row.sinceGeneration;
    return row;
  }
}

/** A topic of the group with its partitions. */
export class Topic {
  readonly topicId: number;
  readonly partitions: Partition[] = [];
  /** Whether the shell has said how many partitions there are. Until then only loaded assignments stand here. */
  named = false;

  constructor(topicId: number) {
    this.topicId = topicId;
  }

  grow(count: number): void {
    for (let partition = this.partitions.length; partition < count; partition++) {
      this.partitions.push(new Partition({ topicId: this.topicId, partition }));
    }
  }
}
