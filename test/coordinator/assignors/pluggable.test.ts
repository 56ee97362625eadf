import { expect, test } from 'vitest';
import { AssignorError } from '../../../src/coordinator/assignors/assignor-error.ts';
import { plugged, type PluggableAssignor } from '../../../src/coordinator/assignors/pluggable.ts';
import { input, owners } from './cases.ts';

type PluggableInput = Parameters<PluggableAssignor['assign']>[0];

const topicName = (topicId: number): string => ['orders', 'refunds'][topicId] ?? `(deleted ${topicId})`;

/** m0 reads orders and refunds, m1 orders alone, m2 nothing that the group has. */
const given = input([2, 1, 3], [[0, 1], [0], [9]], [[1, -1], [0]]);
const good = [
  { topic: 'orders', partition: 0, memberId: 'm0' },
  { topic: 'orders', partition: 1, memberId: 'm1' },
  { topic: 'refunds', partition: 0, memberId: 'm0' },
];

test('an assignor is told names instead of numbers, and what it returns is read by name', () => {
  let told: PluggableInput | undefined;
  const assign = (what: PluggableInput): unknown => {
    told = what;
    return good;
  };
  const assignment = plugged({ name: 'mine', assign }, topicName)(given);
  expect([...assignment.keys()]).toEqual([0, 1, 2]);
  expect(owners(assignment)).toEqual([[0, 1], [0], [-1, -1, -1]]);
  const member = { clientId: 'client', host: '127.0.0.1', instanceId: null, metadata: new Uint8Array() };
  expect(told).toEqual({
    members: [
      { ...member, memberId: 'm0', topics: ['orders', 'refunds'] },
      { ...member, memberId: 'm1', topics: ['orders'] },
      { ...member, memberId: 'm2', topics: [] },
    ],
    topics: [
      { topic: 'orders', partitions: 2 },
      { topic: 'refunds', partitions: 1 },
      { topic: '(deleted 2)', partitions: 3 },
    ],
    current: [
      { topic: 'orders', partition: 0, memberId: 'm1' },
      { topic: 'refunds', partition: 0, memberId: 'm0' },
    ],
  });
});

test('an assignor that writes into what it is given changes nothing of the group', () => {
  const metadata = Buffer.from('zone=a');
  const [first, ...others] = given.members;
  const members = [{ ...first!, instanceId: 'worker-1', metadata }, ...others];
  const spoil = ({ members: told, topics }: PluggableInput): unknown => {
    expect(told[0]).toMatchObject({ instanceId: 'worker-1', metadata: new Uint8Array(Buffer.from('zone=a')) });
    told[0]!.metadata.fill(0);
    (told as unknown[]).length = (topics as unknown[]).length = 0;
    return good;
  };
  plugged({ name: 'mine', assign: spoil }, topicName)({ ...given, members });
  expect(metadata.toString()).toBe('zone=a');
  expect(members.length).toBe(3);
});

const [zero, one, refund] = good;
test.each<[string, () => unknown, string]>([
  ['returns nothing', () => undefined, 'returned undefined, which is not an array'],
  ['returns an object', () => ({ m0: ['orders'] }), 'returned {"m0":["orders"]}, which is not an array'],
  ['is async', async () => good, 'returned a promise; it must return its result at once'],
  ['is async and fails', () => Promise.reject(new Error('late')), 'returned a promise'],
  [
    'throws',
    () => {
      throw new Error('no zones\nat all');
    },
    'threw: no zones',
  ],
  [
    'throws something that is no error',
    () => {
      // eslint-disable-next-line @typescript-eslint/only-throw-error
      throw 'a string';
    },
    'threw: a string',
  ],
  ['returns null in between', () => [zero, null], 'returned null at [1], without topic and memberId'],
  [
    'leaves out the member',
    () => [{ topic: 'orders', partition: 0 }],
    'returned {"topic":"orders","partition":0} at [0]',
  ],
  ['names a partition in letters', () => [{ ...zero, partition: '0' }], 'partition, which is a number'],
  [
    'gives a partition twice',
    () => [...good, { ...one, memberId: 'm0' }],
    'gave partition 1 of topic "orders" twice, the second time to "m0"',
  ],
  ['forgets a partition', () => [zero, refund], 'forgot partition 1 of topic "orders", which "m0" reads'],
  ['forgets everything', () => [], 'forgot partition 0 of topic "orders", which "m0" reads'],
  [
    'makes up a member',
    () => [{ ...zero, memberId: 'm7' }],
    'gave partition 0 of topic "orders" to "m7", which is not a member',
  ],
  [
    'gives to who does not read it',
    () => [{ ...refund, memberId: 'm1' }],
    'gave partition 0 of topic "refunds" to "m1", which does not read that topic',
  ],
  ['gives what nobody reads', () => [{ ...zero, topic: '(deleted 2)' }], 'to "m0", which does not read that topic'],
  [
    'makes up a topic',
    () => [{ ...zero, topic: 'returns' }],
    'gave partition 0 of topic "returns" to "m0": the group has no such topic',
  ],
  [
    'makes up a partition',
    () => [{ ...zero, partition: 2 }],
    'gave partition 2 of topic "orders" to "m0": there is no such partition',
  ],
  [
    'splits a partition',
    () => [{ ...zero, partition: 0.5 }],
    'partition 0.5 of topic "orders" to "m0": there is no such partition',
  ],
  [
    'counts backwards',
    () => [{ ...zero, partition: -1 }],
    'partition -1 of topic "orders" to "m0": there is no such partition',
  ],
])('an assignor that %s is told apart in a sentence', (_, assign, says) => {
  const run = (): unknown => plugged({ name: 'mine', assign }, topicName)(given);
  expect(run).toThrow(AssignorError);
  expect(run).toThrow(/^the assignor "mine" [^\n]+$/);
  expect(run).toThrow(says);
});
