/**
 * An assignor says which member should have which partition. It is a pure function; the group decides how to get there
 * without giving a partition to two members.
 */
export type Assignor = (input: AssignorInput) => Assignment;

/** The name of a built-in assignor, or of one that the operator has added: limits/names.ts says what it may be. */
export type AssignorName = string;

/** The assignors that there are, by name. */
export type Assignors = ReadonlyMap<AssignorName, Assignor>;

export interface AssignorMember {
  readonly memberId: string;
  readonly clientId: string;
  readonly host: string;
  readonly instanceId?: string | null;
  /** What the member says about itself to the assignor. */
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
  /** Who holds what now; a topic may be missing. A holder may have stopped reading the topic. */
  readonly previous: Assignment;
}

/**
 * By topic id, for each partition the index of its member in `members`, or NOBODY. One slot for each partition, so that
 * giving one to two members cannot even be written down; and 100,000 of them are 400 KB and no objects.
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
