import { describe, expect, test } from 'vitest';
import type { Assignor } from '../../src/coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../../src/coordinator/assignors/built-in.ts';
import type { GroupEffect, GroupInput, RefusalReason } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import {
  alive,
  assign,
  hold,
  id,
  join,
  joinClassic,
  joinInstance,
  leave,
  remove,
  tick,
  topic,
  partitionsOf,
} from './scene.ts';

const bad: Assignor = () => {
  throw new Error('it is in a bad mood');
};
const options = { assignors: new Map([...builtInAssignors, ['bad', bad] as const]) };
const types = (effects: readonly { readonly type: string }[]) => effects.map(({ type }) => type);
const refusals = (effects: readonly GroupEffect[]) =>
  effects.flatMap((effect) => (effect.type === 'refused' ? [effect] : []));

const byBroker = [[topic(4), join('a'), joinInstance('b', 'one')]];
const byLeader = [[topic(2), joinClassic('a'), joinClassic('b')]];
const plannedOnce = [...byLeader, [assign('a', 1, 'a', 'b')]];
const stranger = { topicId: 1, partition: 0, memberId: id('a') };
const plan = (...more: { topicId: number; partition: number; memberId: string }[]): GroupInput => {
  const some = [stranger, ...more].map((one) => ({ ...one, memberId: id(one.memberId) }));
  return { type: 'assign', memberId: id('a'), generation: 1, plan: some };
};

/** Each kind of wrong input, with the inputs before it and its refusal. */
const wrong: readonly [string, readonly GroupInput[][], GroupInput, RefusalReason, string][] = [
  [
    'one that is a member no more returns by its id',
    byBroker,
    { ...join('nobody'), returning: true } as GroupInput,
    'MEMBER_UNKNOWN',
    'member "nobody" is not a member of this group (any more): join again',
  ],
  [
    'a member takes another instance id',
    byBroker,
    joinInstance('b', 'two'),
    'INSTANCE_ID_IN_USE',
    'member "b" joined with another instance id, which is fixed',
  ],
  [
    'a member takes the instance id of another',
    byBroker,
    joinInstance('a', 'one'),
    'INSTANCE_ID_IN_USE',
    'member "a" joined with another instance id, which is fixed',
  ],
  [
    'a member drops its instance id',
    byBroker,
    join('b'),
    'INSTANCE_ID_IN_USE',
    'member "b" joined with another instance id, which is fixed',
  ],
  [
    'a member that would assign comes to those for whom the broker does',
    byBroker,
    joinClassic('c'),
    'INCONSISTENT_PROTOCOLS',
    'client_assignors has no rule that all members of this group have',
  ],
  [
    'a member for whom the broker should assign comes to those who do it',
    byLeader,
    join('c'),
    'INCONSISTENT_PROTOCOLS',
    'join by JoinGroup with client_assignors',
  ],
  [
    'a member comes with no rule that the others have',
    byLeader,
    joinClassic('c', ['odd']),
    'INCONSISTENT_PROTOCOLS',
    'client_assignors has no rule that all members of this group have',
  ],
  [
    'a member comes with a rule that only some have',
    [[topic(2), joinClassic('a', ['even', 'odd']), joinClassic('b', ['even'])]],
    joinClassic('c', ['odd']),
    'INCONSISTENT_PROTOCOLS',
    'client_assignors has no rule that all members of this group have',
  ],
  [
    'a member drops the rule that they share',
    byLeader,
    joinClassic('b', ['odd']),
    'INCONSISTENT_PROTOCOLS',
    'client_assignors has no rule that all members of this group have',
  ],
  ['a stranger makes a plan', byLeader, assign('x', 1, 'a', 'b'), 'MEMBER_UNKNOWN', '"x" is not a member'],
  ['a plan comes to an empty group', [[topic(2)]], assign('a', 0), 'MEMBER_UNKNOWN', '"a" is not a member'],
  [
    'one that does not lead makes a plan',
    byLeader,
    assign('b', 1, 'a', 'b'),
    'NOT_LEADER',
    '"b" is not the leader of this group',
  ],
  [
    'a member makes a plan where the broker assigns',
    byBroker,
    assign('a', 1, 'a', 'a', 'b', 'b'),
    'NOT_LEADER',
    '"a" is not the leader of this group',
  ],
  [
    'a plan is of an older generation',
    [...byLeader, [joinClassic('c')]],
    assign('a', 1, 'a', 'b'),
    'STALE_GENERATION',
    'generation 1 wants no assignment: join again',
  ],
  [
    'a plan is of a generation to come',
    byLeader,
    assign('a', 2, 'a', 'b'),
    'STALE_GENERATION',
    'generation 2 wants no assignment',
  ],
  [
    'a second plan comes',
    plannedOnce,
    assign('a', 1, 'b', 'a'),
    'STALE_GENERATION',
    'generation 1 wants no assignment',
  ],
  ['a plan forgets a partition', byLeader, plan(), 'ASSIGNOR_FAILED', 'partition 1 of topic 1 is assigned to nobody'],
  [
    'a plan has a partition twice',
    byLeader,
    plan(stranger),
    'ASSIGNOR_FAILED',
    'partition 0 of topic 1 is assigned twice',
  ],
  [
    'a plan names a stranger',
    byLeader,
    plan({ ...stranger, partition: 1, memberId: id('x') }),
    'ASSIGNOR_FAILED',
    '"x" is not a member that can get partitions now',
  ],
  [
    'a plan makes up a partition',
    byLeader,
    plan({ ...stranger, partition: 2 }),
    'ASSIGNOR_FAILED',
    'there is no partition 2 of topic 1 to assign',
  ],
  [
    'a plan has a partition below zero',
    byLeader,
    plan({ ...stranger, partition: -1 }),
    'ASSIGNOR_FAILED',
    'there is no partition -1 of topic 1 to assign',
  ],
  [
    'a plan makes up a topic',
    byLeader,
    plan({ ...stranger, topicId: 9 }),
    'ASSIGNOR_FAILED',
    'there is no partition 0 of topic 9 to assign',
  ],
  [
    'a plan gives out what is withheld',
    [...plannedOnce, [hold(true)]],
    { ...assign('a', 2, 'a', 'b'), type: 'assign' } as GroupInput,
    'ASSIGNOR_FAILED',
    'there is no partition 0 of topic 1 to assign',
  ],
  [
    'a plan gives a member a topic that it does not read',
    [[topic(1), topic(1, 2), joinClassic('a'), join('b', [1, 2], { clientAssignors: ['even'] })]],
    plan({ topicId: 2, partition: 0, memberId: id('a') }),
    'ASSIGNOR_FAILED',
    '"a" does not read topic 2',
  ],
  [
    'a member comes with an assignor that fails',
    [[topic(2)]],
    join('a', [1], { assignor: 'bad' }),
    'ASSIGNOR_FAILED',
    'the assignor "bad" failed: it threw: it is in a bad mood',
  ],
  [
    'a member comes with an assignor that there is not',
    [[topic(2)]],
    join('a', [1], { assignor: 'unheard-of' }),
    'ASSIGNOR_FAILED',
    'the assignor "unheard-of" failed: no assignor of this name is registered',
  ],
  [
    'a member changes to an assignor that fails',
    byBroker,
    join('a', [1], { assignor: 'bad' }),
    'ASSIGNOR_FAILED',
    'the assignor "bad" failed',
  ],
  ['a group with members is deleted', byBroker, remove, 'GROUP_NOT_EMPTY', 'the group has 2 members'],
  ['a member comes to a deleted group', [[remove]], join('a'), 'GROUP_DEAD', 'the group is deleted'],
  ['a plan comes to a deleted group', [[remove]], assign('a', 0), 'GROUP_DEAD', 'the group is deleted'],
];

describe('bad input is refused by name, and the group is as it was', () => {
  test.each(wrong)('%s', (_, before, input, reason, message) => {
    const scene = new CheckedScene(options);
    for (const inputs of before) scene.step(...inputs);
    scene.nowMs = 1_000;
    const untouched = [scene.group.snapshot(), scene.group.state(), scene.group.awaitsPlan];
    const deadlineMs = scene.group.nextDeadlineMs();
    const effects = scene.step(input);
    expect(effects).toEqual([{ type: 'refused', input, reason, message: expect.stringContaining(message) }]);
    expect(refusals(effects)[0]?.input).toBe(input);
    expect([scene.group.snapshot(), scene.group.state(), scene.group.awaitsPlan]).toEqual(untouched);
    // A join whose rebalance failed was heard: it is a sign of life.
    if (input.type !== 'join' || reason !== 'ASSIGNOR_FAILED') expect(scene.group.nextDeadlineMs()).toBe(deadlineMs);
  });

  test('a refusal does not spoil what else is in the step', () => {
    const scene = new CheckedScene(options);
    scene.step(topic(4), join('a'));
    const effects = scene.step(joinClassic('x'), join('b'), remove);
    expect(types(effects)).toEqual(['persist', 'revoking', 'refused', 'refused']);
    expect(scene.group.memberCount).toBe(2);
  });

  test('refusals are told at once, while other changes are gathered', () => {
    const scene = new CheckedScene({ ...options, gatherMs: 3_000 });
    scene.step(topic(4), join('a'));
    expect(types(scene.step(join('b'), joinClassic('x')))).toEqual(['refused']);
  });
});

describe('an assignor that fails', () => {
  test('costs everybody who joined in that rebalance the join, each by its own input, and nobody else anything', () => {
    const scene = new CheckedScene({ ...options, gatherMs: 3_000 });
    scene.step(topic(4), joinInstance('a1', 'a'), join('b'));
    const before = scene.group.snapshot();
    const joins = [
      join('c'),
      join('c', [1], { metadata: Uint8Array.of(1) }),
      joinInstance('d1', 'd'),
      joinInstance('d2', 'd'),
    ];
    const changes = [joinInstance('a1', 'a', { assignor: 'bad' }), joinInstance('a1', 'a', { assignor: 'bad' })];
    scene.step(...joins, ...changes);
    scene.nowMs = 3_000;
    const effects = scene.step(tick);
    expect(types(effects)).toEqual(Array.from({ length: 6 }, () => 'refused'));
    const refused = new Set(refusals(effects).map(({ input }) => input));
    for (const input of [...joins, ...changes]) expect(refused).toContain(input);
    expect(scene.group.snapshot()).toEqual(before);
    expect(scene.group.state()).toBe('STABLE');
  });

  test('does not leave a member without the session timeout that it had', () => {
    const scene = new CheckedScene(options);
    scene.step(topic(4), join('a'));
    scene.step(join('a', [1], { assignor: 'bad', sessionTimeoutMs: null, maxPollIntervalMs: 1e9 }));
    expect(scene.group.nextDeadlineMs()).toBe(30_000);
    scene.nowMs = 30_000;
    scene.step(tick);
    expect(scene.group.state()).toBe('EMPTY');
  });

  test('does not undo what else the rebalance is for, nor is it among its causes', () => {
    const scene = new CheckedScene(options);
    scene.step(topic(4), join('a'), join('b'));
    const effects = scene.step(join('c'), leave('b'), join('a', [1], { assignor: 'bad' }));
    expect(partitionsOf(scene.group, id('a')).length).toBe(4);
    const causes = [{ reason: 'MEMBER_LEFT', memberId: 'b', count: 1 }];
    expect(effects).toContainEqual({ type: 'rebalanced', rebalance: expect.objectContaining({ causes }) });
  });

  test('does not stir what is on its way', () => {
    const scene = new CheckedScene(options);
    scene.step(topic(4), join('a'));
    scene.step(join('b'));
    const moving = scene.revoking();
    expect(types(scene.step(join('a', [1], { assignor: 'bad' })))).toEqual(['refused']);
    expect([scene.revoking(), scene.group.generation]).toEqual([moving, 2]);
  });

  test('an assignor that fails where no join can be refused leaves the decision to sticky and reports it', () => {
    const moody: Assignor = (input) => {
      if (input.members.length === 1) throw new Error('it wants company');
      return builtInAssignors.get('range')!(input);
    };
    const scene = new CheckedScene({ assignors: new Map([...builtInAssignors, ['moody', moody]]) });
    scene.step(topic(4), join('a', [1], { assignor: 'moody' }), join('b', [1], { assignor: 'moody' }));
    const effects = scene.step(leave('a'));
    const message = 'the assignor "moody" failed: it threw: it wants company';
    expect(effects).toContainEqual({ type: 'assignorFailed', assignor: 'moody', message });
    expect(partitionsOf(scene.group, id('b')).length).toBe(4);
  });

  test('a failing assignor of a member that used to assign by itself does not lose the awaited plan', () => {
    const scene = new CheckedScene(options);
    scene.step(topic(2), joinClassic('a'));
    expect(types(scene.step(join('a', [1], { assignor: 'bad' })))).toEqual(['refused']);
    expect([scene.group.leader, scene.group.awaitsPlan, scene.group.generation]).toEqual(['a', true, 1]);
    scene.step(assign('a', 1, 'a', 'a'));
    expect(partitionsOf(scene.group, id('a')).length).toBe(2);
  });
});

describe('a group of nobody', () => {
  test('is not rebalanced because a topic of it is withheld and given back', () => {
    const scene = new CheckedScene();
    scene.step(topic(2));
    expect(scene.step(hold(true))).toEqual([]);
    expect(scene.step(hold(false))).toEqual([]);
    expect(scene.group.generation).toBe(0);
  });

  test('a group that is deleted in the step in which its last member leaves writes the deletion', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    expect(types(scene.step(leave('a'), remove))).toEqual(['persist', 'removed', 'rebalanced']);
    expect([scene.group.state(), scene.durable.snapshot().members]).toEqual(['DEAD', []]);
  });

  test('a deleted group ignores later inputs', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), remove);
    expect(scene.step(topic(4), hold(true), alive('a'), leave('a'), remove, tick)).toEqual([]);
  });
});
