/**
 * An assignor decides which member should have which partition. It is a pure function. The group
 * decides how to get there without giving a partition to two members.
 */
export type Assignor = (input: AssignorInput) => Assignment;

/** The name of a built-in assignor or of an operator's; limits/names.ts has the rule. */
export type AssignorName = string;

/** All assignors by name. */
export type Assignors = ReadonlyMap<AssignorName, Assignor>;

export interface AssignorMember {
  readonly memberId: string;
  readonly clientId: string;
  readonly host: string;
  readonly instanceId?: string | null;
  /** The member's data for the assignor. */
  readonly metadata?: Uint8Array;
  /** May name topics that the group is not subscribed to. */
  readonly topicIds: readonly number[];
  readonly joinSeq: number;
}

export interface AssignorTopic {
  readonly topicId: number;
  readonly partitions: number;
}

export interface AssignorInput {
  /** In the order of joining, which is stable where ids are random. */
  readonly members: readonly AssignorMember[];
  /** Ascending by id. */
  readonly topics: readonly AssignorTopic[];
  /** The current holders; a topic may be missing. A holder may have stopped reading the topic. */
  readonly previous: Assignment;
}

/**
 * By topic id, for each partition the index of its member in `members`, or NOBODY. One slot for
 * each partition makes a partition with two members impossible. 100,000 slots are 400 KB and no
 * objects.
 */
export type Assignment = ReadonlyMap<number, Int32Array>;

export const NOBODY = -1;

/** By topic, in the order of `topics`: the indexes of the members that read it, ascending. */
export function readersByTopic(input: AssignorInput): number[][] {
  const readers = new Map<number, number[]>(input.topics.map((topic) => [topic.topicId, []]));
  input.members.forEach((member, index) => {
    for (const topicId of member.topicIds) readers.get(topicId)?.push(index);
  });
  return [...readers.values()];
}
