import { Partition } from './member.ts';

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
