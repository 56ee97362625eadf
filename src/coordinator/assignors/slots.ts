import { NOBODY, readersByTopic, type Assignment, type AssignorInput } from './assignor.ts';

/** An error in giving one partition to one member. */
export type SlotFault = 'NO_TOPIC' | 'NO_PARTITION' | 'NO_MEMBER' | 'NO_READER' | 'TWICE';

/**
 * An assignment from outside, filled slot by slot: from an operator's assignor, or from the leader
 * of a group that assigns by itself. An error is returned by its kind; the caller words it.
 */
export class Slots {
  readonly #input: AssignorInput;
  /** By member id. */
  readonly #indexes: ReadonlyMap<string, number>;
  readonly #owners: ReadonlyMap<number, Int32Array>;

  constructor(input: AssignorInput) {
    this.#input = input;
    this.#indexes = new Map(input.members.map(({ memberId }, index) => [memberId, index]));
    this.#owners = new Map(
      input.topics.map(({ topicId, partitions }) => [topicId, new Int32Array(partitions).fill(NOBODY)]),
    );
  }

  /** Gives a partition to a member. @returns the error; null: none. */
  give(topicId: number, partition: number, memberId: string): SlotFault | null {
    const owners = this.#owners.get(topicId);
    if (owners === undefined) return 'NO_TOPIC';
    const owner = owners[partition];
    if (owner === undefined) return 'NO_PARTITION';
    const index = this.#indexes.get(memberId) ?? NOBODY;
    const member = this.#input.members[index];
    if (member === undefined) return 'NO_MEMBER';
    if (!member.topicIds.includes(topicId)) return 'NO_READER';
    if (owner !== NOBODY) return 'TWICE';
    owners[partition] = index;
    return null;
  }

  /**
   * The first partition that a member reads and no member was given, with its first reader; or
   * null.
   */
  forgotten(): { readonly topicId: number; readonly partition: number; readonly readerId: string } | null {
    const readers = readersByTopic(this.#input);
    for (const [at, { topicId }] of this.#input.topics.entries()) {
      const reader = this.#input.members[readers[at]?.[0] ?? NOBODY];
      const partition = this.#owners.get(topicId)?.indexOf(NOBODY) ?? -1;
      if (reader !== undefined && partition >= 0) return { topicId, partition, readerId: reader.memberId };
    }
    return null;
  }

  get assignment(): Assignment {
    return this.#owners;
  }
}
