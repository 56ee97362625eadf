import fc from 'fast-check';
import { NOBODY, type Assignment, type AssignorInput } from '../../../src/coordinator/assignors/assignor.ts';

/**
 * Who reads what and holds what, in a form that fits on a line: topics by partition count, members
 * by topics.
 */
export function input(
  partitions: readonly number[],
  topicsOfMembers: readonly (readonly number[])[],
  previous: readonly (readonly number[])[] = [],
): AssignorInput {
  return {
    members: topicsOfMembers.map((topicIds, index) => {
      const unread = { clientId: 'client', host: '127.0.0.1', instanceId: null, metadata: new Uint8Array() };
      return { ...unread, memberId: `m${index}`, topicIds, joinSeq: index };
    }),
    topics: partitions.map((count, topicId) => ({ topicId, partitions: count })),
    previous: new Map(previous.map((owners, topicId) => [topicId, Int32Array.from(owners)])),
  };
}

/** By topic the owners of its partitions. */
export function owners(assignment: Assignment): number[][] {
  return Array.from(assignment.values(), (some) => [...some]);
}

/** Of each member how many partitions it has. */
export function sizes({ members }: AssignorInput, assignment: Assignment): number[] {
  const all = owners(assignment).flat();
  return members.map((_, index) => all.filter((owner) => owner === index).length);
}

/** Partitions that leave a holder that still reads their topic. */
export function moves({ members, previous }: AssignorInput, assignment: Assignment): number {
  let count = 0;
  for (const [topicId, some] of assignment) {
    some.forEach((owner, partition) => {
      const holder = previous.get(topicId)?.[partition] ?? NOBODY;
      if (holder !== owner && members[holder]?.topicIds.includes(topicId) === true) count++;
    });
  }
  return count;
}

export function sumOfSquares(numbers: readonly number[]): number {
  return numbers.reduce((sum, n) => sum + n * n, 0);
}

export interface Bounds {
  readonly members: number;
  readonly topics: number;
  readonly partitions: number;
}

/** Any input within the bounds; `equal`: all members read all topics. */
export function inputs({ members, topics, partitions }: Bounds, equal: boolean): fc.Arbitrary<AssignorInput> {
  return fc
    .record({ m: fc.integer({ min: 1, max: members }), t: fc.integer({ min: 1, max: topics }) })
    .chain(({ m, t }) => {
      const every = Array.from({ length: t }, (_, topicId) => topicId);
      // A topic that the group does not know may be among them, and a previous holder may read its
      // topic no longer.
      const reads = equal ? fc.constant(every) : fc.subarray([...every, t]);
      const holders = fc.array(fc.integer({ min: NOBODY, max: m - 1 }), { maxLength: Math.floor(partitions / t) });
      return fc
        .tuple(
          fc.array(holders, { minLength: t, maxLength: t }),
          fc.array(reads, { minLength: m, maxLength: m }),
          fc.array(fc.integer({ min: 0, max: 2 }), { minLength: t, maxLength: t }),
        )
        .map(([previous, topicIds, added]) => {
          const counts = previous.map((some, topic) =>
            Math.min(some.length + (added[topic] ?? 0), Math.floor(partitions / t)),
          );
          return input(counts, topicIds, previous);
        });
    });
}

/**
 * What every assignor owes: each partition that somebody reads goes to one of its readers, others
 * to nobody.
 */
export function isComplete({ members, topics }: AssignorInput, assignment: Assignment): boolean {
  return topics.every(({ topicId, partitions }) => {
    const readers = members.flatMap((member, index) => (member.topicIds.includes(topicId) ? [index] : []));
    const allowed = readers.length > 0 ? readers : [NOBODY];
    const some = assignment.get(topicId);
    return some?.length === partitions && some.every((owner) => allowed.includes(owner));
  });
}
