import type { Assignment, AssignorInput } from '../../../src/coordinator/assignors/assignor.ts';
import { moves, sizes, sumOfSquares } from './cases.ts';

export interface Best {
  readonly sumOfSquares: number;
  readonly moves: number;
}

/**
 * Tries every assignment there is: the best balance, and the fewest moves among those that have it.
 */
export function best(input: AssignorInput): Best {
  let found: Best = { sumOfSquares: Infinity, moves: Infinity };
  for (const assignment of every(input)) {
    const squares = sumOfSquares(sizes(input, assignment));
    if (squares > found.sumOfSquares) continue;
    const moved = moves(input, assignment);
    if (squares < found.sumOfSquares || moved < found.moves) found = { sumOfSquares: squares, moves: moved };
  }
  return found;
}

function* every(input: AssignorInput): Generator<Assignment> {
  const slots = input.topics.flatMap(({ topicId, partitions }) => {
    const readers = input.members.flatMap((member, index) => (member.topicIds.includes(topicId) ? [index] : []));
    return readers.length === 0
      ? []
      : Array.from({ length: partitions }, (_, partition) => ({ topicId, partition, readers }));
  });
  const assignment = new Map(
    input.topics.map(({ topicId, partitions }) => [topicId, new Int32Array(partitions).fill(-1)]),
  );
  const choose = function* (slot: number): Generator<Assignment> {
    const at = slots[slot];
    if (at === undefined) {
      yield assignment;
      return;
    }
    for (const reader of at.readers) {
      assignment.get(at.topicId)?.fill(reader, at.partition, at.partition + 1);
      yield* choose(slot + 1);
    }
  };
  yield* choose(0);
}

/**
 * For sizes beyond trying everything: whether some chain of single moves makes an assignment
 * better. By the theory of minimum-cost flows there is one unless the assignment is the best.
 */
export function canBeImproved(input: AssignorInput, assignment: Assignment): boolean {
  const size = sizes(input, assignment);
  const cost = cheapestChains(input, assignment);
  return cost.some((row, from) =>
    row.some((moved, to) => {
      if (moved === Infinity) return false;
      const squares = from === to ? 0 : 2 * ((size[to] ?? 0) - (size[from] ?? 0)) + 2;
      return squares < 0 || (squares === 0 && moved < 0);
    }),
  );
}

/**
 * From member to member the least change of the number of moves by passing one partition on, over
 * any members between.
 */
function cheapestChains({ members, topics, previous }: AssignorInput, assignment: Assignment): number[][] {
  const cost = members.map((_, from) => members.map((_, to) => (from === to ? 0 : Infinity)));
  for (const { topicId } of topics) {
    const home = (partition: number): number => previous.get(topicId)?.[partition] ?? -1;
    assignment.get(topicId)?.forEach((from, partition) => {
      members.forEach((member, to) => {
        const row = cost[from];
        if (row === undefined || to === from || !member.topicIds.includes(topicId)) return;
        const change = home(partition) === from ? 1 : home(partition) === to ? -1 : 0;
        row[to] = Math.min(row[to] ?? Infinity, change);
      });
    });
  }
  members.forEach((_, over) => {
    for (const row of cost) {
      const first = row[over] ?? Infinity;
      cost[over]?.forEach((rest, to) => {
        row[to] = Math.min(row[to] ?? Infinity, first + rest);
      });
    }
  });
  return cost;
}
