import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readersByTopic, type Assignor, type AssignorInput } from '../../../src/coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../../../src/coordinator/assignors/built-in.ts';
import { LeastMoves } from '../../../src/coordinator/assignors/least-moves.ts';
import { sticky } from '../../../src/coordinator/assignors/sticky.ts';
import { property } from '../property.ts';
import { input, inputs, isComplete, moves, owners, sizes, sumOfSquares, type Bounds } from './cases.ts';
import { best, canBeImproved } from './oracle.ts';

const small: Bounds = { members: 4, topics: 3, partitions: 7 };

test.each([
  ['a first assignment is dealt out', [4], [[0], [0]], [], [[0, 1, 0, 1]]],
  ['a third member takes one from each', [6], [[0], [0], [0]], [[0, 0, 0, 1, 1, 1]], [[0, 0, 2, 1, 1, 2]]],
  ['what is balanced stays, however it lies', [4], [[0], [0]], [[1, 0, 0, 1]], [[1, 0, 0, 1]]],
  ['whoever has one more keeps it', [5], [[0], [0]], [[1, 1, 1, 0, 0]], [[1, 1, 1, 0, 0]]],
  [
    'a holder that does not read the topic any more loses it',
    [2, 2],
    [[0], [1]],
    [
      [1, 1],
      [0, 0],
    ],
    [
      [0, 0],
      [1, 1],
    ],
  ],
  ['new partitions go to whoever has least', [5], [[0], [0]], [[0, 0, 1]], [[0, 0, 1, 0, 1]]],
  ['a topic that nobody reads stays free', [2, 1], [[1]], [], [[-1, -1], [0]]],
  ['no members', [2], [], [], [[-1, -1]]],
  // m0 reads both topics and m1 the first alone: balance needs a partition of topic 0 to go, not
  // one of topic 1.
  [
    'a partition goes that the other may read',
    [2, 2],
    [[0, 1], [0]],
    [
      [0, 0],
      [0, 0],
    ],
    [
      [1, 1],
      [0, 0],
    ],
  ],
  // m2 can be given something only by way of m1, which gets it from m0.
  ['a chain of members passes a partition on', [3, 1], [[0], [0, 1], [1]], [[0, 0, 1], [1]], [[0, 0, 1], [2]]],
])('sticky: %s', (_, partitions, members, previous, expected) => {
  expect(owners(sticky(input(partitions, members, previous)))).toEqual(expected);
});

describe.each([
  ['sticky', 'equal subscriptions', true],
  ['sticky', 'subscriptions of their own', false],
  ['cooperative_sticky', 'equal subscriptions', true],
  ['cooperative_sticky', 'subscriptions of their own', false],
])('%s with %s', (name, _, equal) => {
  const assignor = builtInAssignors.get(name)!;

  test('it is as balanced as can be and moves no partition without need, against a search of everything', () => {
    fc.assert(
      fc.property(inputs(small, equal), (given) => {
        const assignment = assignor(given);
        expect(isComplete(given, assignment)).toBe(true);
        expect({
          sumOfSquares: sumOfSquares(sizes(given, assignment)),
          moves: moves(given, assignment),
        }).toEqual(best(given));
      }),
      property(equal ? 150 : 600),
    );
  }, 60_000);

  test('it stays the best at sizes where layers and blocks come into play', () => {
    fc.assert(
      fc.property(inputs({ members: 14, topics: 8, partitions: 240 }, equal), (given) => {
        const assignment = assignor(given);
        expect(isComplete(given, assignment)).toBe(true);
        expect(canBeImproved(given, assignment)).toBe(false);
      }),
      property(300),
    );
  });

  test('a second look at its assignment changes nothing', () => {
    fc.assert(
      fc.property(inputs({ members: 10, topics: 5, partitions: 100 }, equal), (given) => {
        const assignment = assignor(given);
        expect(owners(assignor({ ...given, previous: assignment }))).toEqual(owners(assignment));
      }),
      property(200),
    );
  });
});

test.each(['sticky', 'cooperative_sticky'])(
  '%s: members that read the same topics differ by one partition at most, whatever others read',
  (name) => {
    const assignor = builtInAssignors.get(name)!;
    fc.assert(
      fc.property(inputs({ members: 12, topics: 3, partitions: 60 }, false), (given) => {
        const size = sizes(given, assignor(given));
        const bySubscription = Map.groupBy(given.members, (member) =>
          member.topicIds.filter((id) => id < given.topics.length).join(),
        );
        for (const members of bySubscription.values()) {
          const alike = members.map((member) => size[member.joinSeq] ?? 0);
          expect(Math.max(...alike) - Math.min(...alike)).toBeLessThanOrEqual(1);
        }
      }),
      property(300),
    );
  },
);

test('the short way for equal subscriptions and the search give the same sizes and the same number of moves', () => {
  fc.assert(
    fc.property(inputs({ members: 12, topics: 4, partitions: 80 }, true), (given) => {
      const short = sticky(given);
      const searched = new LeastMoves(given, readersByTopic(given)).assign();
      expect(moves(given, short)).toBe(moves(given, searched));
      expect(sumOfSquares(sizes(given, short))).toBe(sumOfSquares(sizes(given, searched)));
    }),
    property(200),
  );
});

describe.each(['sticky', 'cooperative_sticky'])('fault 21: a %s that ignores the previous assignment', (name) => {
  const assignor = builtInAssignors.get(name)!;

  test('what is balanced stays, in whatever order it lies', () => {
    fc.assert(
      fc.property(balanced, ({ members, lying }) => {
        expect(owners(assignor(many(members, lying.length, [lying])))).toEqual([lying]);
      }),
      property(200),
    );
  });

  test('a join moves the share of the one that joins, and that to nobody else', () => {
    fc.assert(
      fc.property(balanced, ({ members, lying }) => {
        const given = many(members + 1, lying.length, [lying]);
        const assignment = assignor(given);
        const share = Math.floor(lying.length / (members + 1));
        expect(moves(given, assignment)).toBe(share);
        expect(sizes(given, assignment)[members]).toBe(share);
      }),
      property(200),
    );
  });

  test('a leave, or more partitions, move nothing that somebody holds', () => {
    fc.assert(
      fc.property(balanced, fc.nat(9), ({ members, lying }, added) => {
        const left = lying.map((holder) => (holder === members - 1 ? -1 : holder));
        const fewer = many(members - 1, lying.length, [left]);
        expect(moves(fewer, assignor(fewer))).toBe(0);
        const more = many(members, lying.length + added, [lying]);
        expect(moves(more, assignor(more))).toBe(0);
      }),
      property(200),
    );
  });

  test('an assignor that ignores the assignment moves more, so these numbers would show it', () => {
    const lying = [2, 1, 0, 2, 1, 0];
    const blind: Assignor = (given) => assignor({ ...given, previous: new Map() });
    const [same, joined, left] = [many(3, 6, [lying]), many(4, 6, [lying]), many(2, 6, [[-1, 1, 0, -1, 1, 0]])];
    expect([same, joined, left].map((given) => moves(given, assignor(given)))).toEqual([0, 1, 0]);
    expect([same, joined, left].map((given) => moves(given, blind(given)))).toEqual([4, 5, 2]);
  });
});

test('a join in a group of 1,000 members and 10,000 partitions moves 9 of them', () => {
  const before = many(1_000, 10_000, []);
  const joined = many(1_001, 10_000, owners(sticky(before)));
  const assignment = sticky(joined);
  expect(moves(joined, assignment)).toBe(9);
  expect(Math.min(...sizes(joined, assignment))).toBe(9);
});

/** Members that hold partitions of one topic, as many as the others or one more, anyhow. */
const balanced = fc
  .record({ members: fc.integer({ min: 2, max: 9 }), partitions: fc.nat(60) })
  .chain(({ members, partitions }) => {
    const dealt = Array.from({ length: partitions }, (_, partition) => partition % members);
    return fc.shuffledSubarray(dealt, { minLength: partitions }).map((lying) => ({ members, lying }));
  });

function many(members: number, partitions: number, previous: readonly (readonly number[])[]): AssignorInput {
  return input(
    [partitions],
    Array.from({ length: members }, () => [0]),
    previous,
  );
}
