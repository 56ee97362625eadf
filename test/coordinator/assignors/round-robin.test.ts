import fc from 'fast-check';
import { expect, test } from 'vitest';
import { roundRobin } from '../../../src/coordinator/assignors/round-robin.ts';
import { property } from '../property.ts';
import { input, inputs, isComplete, owners, sizes } from './cases.ts';

test.each([
  ['partitions in turn', [5], [[0], [0]], [[0, 1, 0, 1, 0]]],
  [
    'the next topic goes on where the last one ended',
    [3, 3],
    [
      [0, 1],
      [0, 1],
    ],
    [
      [0, 1, 0],
      [1, 0, 1],
    ],
  ],
  [
    'a member that does not read the topic is passed over',
    [3, 3],
    [[0], [0, 1], [1]],
    [
      [0, 1, 0],
      [1, 2, 1],
    ],
  ],
  ['a topic that nobody reads stays free', [2, 1], [[1]], [[-1, -1], [0]]],
  ['no members', [2], [], [[-1, -1]]],
])('round robin: %s', (_, partitions, members, expected) => {
  expect(owners(roundRobin(input(partitions, members)))).toEqual(expected);
});

test('round robin gives every partition to a reader', () => {
  fc.assert(
    fc.property(inputs({ members: 6, topics: 4, partitions: 30 }, false), (given) => {
      expect(isComplete(given, roundRobin(given))).toBe(true);
    }),
    property(300),
  );
});

test('round robin gives members of the same topics sizes that differ by one at most', () => {
  fc.assert(
    fc.property(inputs({ members: 6, topics: 4, partitions: 30 }, true), (given) => {
      const size = sizes(given, roundRobin(given));
      expect(Math.max(...size) - Math.min(...size)).toBeLessThanOrEqual(1);
    }),
    property(300),
  );
});
