import { expect, test } from 'vitest';
import { AssignorError } from '../../src/coordinator/assignors/assignor-error.ts';
import type { Assignor, AssignorInput } from '../../src/coordinator/assignors/assignor.ts';
import { sticky } from '../../src/coordinator/assignors/sticky.ts';
import { Member } from '../../src/coordinator/member.ts';
import { Topic } from '../../src/coordinator/topic.ts';
import { retarget } from '../../src/coordinator/target.ts';
import { id } from './scene.ts';

function member(name: string, topicIds: readonly number[], joinSeq: number): Member {
  const timeouts = { sessionTimeoutMs: null, rebalanceTimeoutMs: 60_000, maxPollIntervalMs: 300_000 };
  const told = { instanceId: null, clientAssignors: [], metadata: new Uint8Array() };
  const who = { memberId: id(name), clientId: `client-${name}`, host: '127.0.0.1', kind: 'STREAM' as const };
  return new Member({ ...who, ...timeouts, ...told, assignor: 'sticky', topicIds, joinSeq });
}

function topic(topicId: number, partitions: number): Topic {
  const made = new Topic(topicId);
  made.grow(partitions);
  return made;
}

/** a reads topics 1 and 2, b the first alone; a holds partition 0 of topic 1. */
function group() {
  const members = [member('a', [1, 2], 0), member('b', [1], 1)];
  const topics = [topic(1, 2), topic(2, 1)];
  topics[0]!.partitions[0]!.hold(members[0]!, 1);
  const targets = (): (string | null)[] =>
    topics.flatMap(({ partitions }) => partitions.map(({ target }) => target?.row.memberId ?? null));
  return { members, topics, targets };
}

const of = (first: readonly number[], second: readonly number[]) =>
  new Map([
    [1, Int32Array.from(first)],
    [2, Int32Array.from(second)],
  ]);

test.each<[string, Assignor, string]>([
  [
    'throws',
    () => {
      throw new RangeError('no item 3');
    },
    'it threw: no item 3',
  ],
  ['returns nothing', () => undefined as never, 'it threw'],
  ['forgets the second topic', () => new Map([[1, Int32Array.from([0, 1])]]), 'none of the 1 partitions of topic 2'],
  ['forgets a partition of it', () => of([0, 1], [-1]), 'partition 0 of topic 2 to nobody'],
  ['makes up a partition of it', () => of([0, 1], [0, 0]), '2 of the 1 partitions of topic 2'],
  ['gives it to who does not read it', () => of([0, 1], [1]), 'partition 0 of topic 2 to member 1'],
  ['gives it to nobody known', () => of([0, 1], [7]), 'partition 0 of topic 2 to member 7'],
])('an assignor that %s changes no target, not even those that it got right', (_, broken, says) => {
  const { members, topics, targets } = group();
  expect(() => retarget(broken, members, topics)).toThrow(AssignorError);
  expect(() => retarget(broken, members, topics)).toThrow(says);
  expect(targets()).toEqual([null, null, null]);
  expect(retarget(sticky, members, topics)).toBe(true);
  const before = targets();
  expect(() => retarget(broken, members, topics)).toThrow(AssignorError);
  expect(targets()).toEqual(before);
});

test('the error of an assignor is passed on as it is', () => {
  const { members, topics } = group();
  const error = new AssignorError('the assignor "mine" forgot everything');
  const fail = (): never => {
    throw error;
  };
  expect(() => retarget(fail, members, topics)).toThrow(error);
});

test('fault 21: an assignor that is not told who holds what', () => {
  const { members, topics } = group();
  let told: AssignorInput | undefined;
  retarget((input) => sticky((told = input)), members, topics);
  expect(told?.previous).toEqual(of([0, -1], [-1]));
  expect(told?.members).toMatchObject([{ memberId: 'a', clientId: 'client-a', host: '127.0.0.1' }, { memberId: 'b' }]);
});
