import fc from 'fast-check';
import { expect, test } from 'vitest';
import { range } from '../../../src/coordinator/assignors/range.ts';
import { property } from '../property.ts';
import { input, inputs, isComplete, owners } from './cases.ts';

test.each([
  ['what does not divide goes to the first', [7], [[0], [0], [0]], [[0, 0, 0, 1, 1, 2, 2]]],
  [
    'each topic begins anew',
    [3, 3],
    [
      [0, 1],
      [0, 1],
    ],
    [
      [0, 0, 1],
      [0, 0, 1],
    ],
  ],
  [
    'only readers of a topic get its partitions',
    [2, 2],
    [[1], [0, 1]],
    [
      [1, 1],
      [0, 1],
    ],
  ],
  ['more members than partitions', [2], [[0], [0], [0]], [[0, 1]]],
  ['a topic that nobody reads stays free', [2, 1], [[1]], [[-1, -1], [0]]],
  ['no members', [2], [], [[-1, -1]]],
  ['a topic without partitions', [0], [[0]], [[]]],
])('range: %s', (_, partitions, members, expected) => {
  expect(owners(range(input(partitions, members)))).toEqual(expected);
});

test('range gives every partition to a reader, in runs that differ by one at most', () => {
  fc.assert(
    fc.property(inputs({ members: 6, topics: 3, partitions: 30 }, false), (given) => {
      const assignment = range(given);
      expect(isComplete(given, assignment)).toBe(true);
      for (const { topicId } of given.topics) {
        const some = [...(assignment.get(topicId) ?? [])];
        expect(some).toEqual([...some].sort((a, b) => a - b));
        const readers = given.members.flatMap((member, index) => (member.topicIds.includes(topicId) ? [index] : []));
        const runs = readers.map((reader) => some.filter((owner) => owner === reader).length);
        if (runs.length > 0) expect(Math.max(...runs) - Math.min(...runs)).toBeLessThanOrEqual(1);
      }
    }),
    property(300),
  );
});
