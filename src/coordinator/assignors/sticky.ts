import { NOBODY, readersByTopic, type Assignment, type Assignor, type AssignorInput } from './assignor.ts';
import { LeastMoves } from './least-moves.ts';
import { present } from '../../errors/present.ts';

/**
 * Balanced first, then as few moves as possible from the current assignment.
 *
 * Balanced: the sum of the squares of the members' sizes is the least that the subscriptions allow.
 * Members with the same topics therefore differ by one partition at most. A move is a partition
 * that leaves a holder that still reads its topic. Both are exact, and a test compares them with an
 * exhaustive search. In nearly every group all members read the same topics; then the sizes are
 * known beforehand, and no search is needed.
 */
export const sticky: Assignor = (input) => {
  const readers = readersByTopic(input);
  const common = commonReaders(input, readers);
  return common === null ? new LeastMoves(input, readers).assign() : assignEqual(input, readers, common);
};

/** The readers of every topic that has any, or null if they differ from topic to topic. */
function commonReaders(input: AssignorInput, readers: readonly (readonly number[])[]): readonly number[] | null {
  const read = readers.filter((some, index) => some.length > 0 && (input.topics[index]?.partitions ?? 0) > 0);
  const first = read[0] ?? [];
  const same = (some: readonly number[]): boolean =>
    some.length === first.length && some.every((member, at) => member === first[at]);
  return read.every(same) ? first : null;
}

/**
 * All members read the same topics: each keeps partitions up to its share, the rest is dealt out.
 */
function assignEqual(
  input: AssignorInput,
  readers: readonly (readonly number[])[],
  members: readonly number[],
): Assignment {
  const room = shares(input, readers, members);
  const assignment = new Map<number, Int32Array>();
  input.topics.forEach((topic, index) => {
    const owners = new Int32Array(topic.partitions).fill(NOBODY);
    assignment.set(topic.topicId, owners);
    if (readers[index]?.length === 0) return;
    const previous = input.previous.get(topic.topicId);
    for (let partition = 0; partition < owners.length; partition++) {
      const holder = previous?.[partition] ?? NOBODY;
      const left = holder === NOBODY ? 0 : (room[holder] ?? 0);
      if (left === 0) continue;
      owners[partition] = holder;
      room[holder] = left - 1;
    }
  });
  const read = input.topics.filter((_, index) => readers[index]?.length !== 0);
  deal(
    read.map(({ topicId }) => present(assignment.get(topicId), 'each topic has owners')),
    members,
    room,
  );
  return assignment;
}

/** The number of partitions for each member. Members that have more already get the remainder. */
function shares(input: AssignorInput, readers: readonly (readonly number[])[], members: readonly number[]): Int32Array {
  const held = new Int32Array(input.members.length);
  let total = 0;
  input.topics.forEach((topic, index) => {
    if (readers[index]?.length === 0) return;
    total += topic.partitions;
    const previous = input.previous.get(topic.topicId)?.subarray(0, topic.partitions) ?? [];
    for (const holder of previous) if (holder !== NOBODY) held[holder] = (held[holder] ?? 0) + 1;
  });
  const each = Math.floor(total / members.length);
  let oneMore = total % members.length;
  const share = new Int32Array(input.members.length);
  const above = members.filter((member) => (held[member] ?? 0) > each);
  const below = members.filter((member) => (held[member] ?? 0) <= each);
  for (const member of [...above, ...below]) share[member] = each + (oneMore-- > 0 ? 1 : 0);
  return share;
}

/**
 * Gives out the partitions without an owner, in turn, so that those of one topic spread over
 * members instead of filling one at a time.
 */
function deal(topics: readonly Int32Array[], members: readonly number[], room: Int32Array): void {
  let takers = members.filter((member) => (room[member] ?? 0) > 0);
  let turn = 0;
  for (const owners of topics) {
    for (let partition = 0; partition < owners.length; partition++) {
      if (owners[partition] !== NOBODY) continue;
      if (turn === takers.length) {
        takers = takers.filter((member) => (room[member] ?? 0) > 0);
        turn = 0;
      }
      const taker = present(takers[turn++], 'the shares of the members are as many as partitions');
      owners[partition] = taker;
      room[taker] = (room[taker] ?? 0) - 1;
    }
  }
}
