import { describe, expect, test } from 'vitest';
import type { MemberRow } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import {
  alive,
  assign,
  drained,
  hold,
  id,
  join,
  joinClassic,
  joinInstance,
  leave,
  progress,
  tick,
  topic,
  partitionsOf,
  revokingOf,
} from './scene.ts';

const p = (partition: number) => ({ topicId: 1, partition });
const types = (effects: readonly { readonly type: string }[]) => effects.map(({ type }) => type);
const seqs = ({ group }: CheckedScene) => group.members().map(({ memberId, joinSeq }) => `${memberId} ${joinSeq}`);

describe('a process of an instance that is a member', () => {
  test('takes its place, so that a restart moves nothing and nobody else hears of it', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), joinInstance('a1', 'a'), join('b'));
    const effects = scene.step(joinInstance('a2', 'a'));
    expect(types(effects)).toEqual(['persist', 'replaced']);
    expect(seqs(scene)).toEqual(['a2 0', 'b 1']);
    expect(scene.group.generation).toBe(1);
    expect(scene.group.holder(p(0))).toEqual({ memberId: 'a2', sinceGeneration: 1, revoking: false });
    expect(scene.group.instance('a')?.memberId).toBe('a2');
  });

  test('keeps the place that it has taken from one that returns by its id in the same step', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), joinInstance('a1', 'a'), join('b'));
    const back = { ...joinInstance('a1', 'a'), returning: true };
    const effects = scene.step(joinInstance('a2', 'a'), back);
    expect(types(effects)).toEqual(['persist', 'replaced', 'refused']);
    expect(effects.at(-1)).toMatchObject({ input: back, reason: 'INSTANCE_FENCED' });
    expect(scene.group.instance('a')?.memberId).toBe('a2');
  });

  test('still owes what the one before it was asked for, by the same time', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinInstance('a1', 'a'));
    scene.step(join('b'));
    scene.nowMs = 20_000;
    scene.step(alive('b'), joinInstance('a2', 'a'));
    expect(revokingOf(scene.group, id('a2'))).toEqual([p(1)]);
    scene.step(alive('a1', p(1)), alive('b'));
    expect(revokingOf(scene.group, id('a2'))).toEqual([p(1)]);
    scene.step(alive('a2', p(1)));
    expect(partitionsOf(scene.group, id('b'))).toEqual([p(1)]);
  });

  test('gets what was on its way to the one before it', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('b'));
    scene.step(joinInstance('a1', 'a'));
    scene.step(joinInstance('a2', 'a'));
    expect(partitionsOf(scene.group, id('a2'))).toEqual([]);
    expect(scene.group.state()).toBe('COMPLETING_REBALANCE');
    scene.step(drained(1));
    expect(partitionsOf(scene.group, id('a2'))).toEqual([p(1)]);
  });

  test('has the whole session timeout before it, not what was left of it', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinInstance('a1', 'a'));
    scene.nowMs = 29_999;
    scene.step(joinInstance('a2', 'a'));
    scene.nowMs = 59_998;
    scene.step(tick);
    expect(scene.group.memberCount).toBe(1);
  });

  test.each<[string, Partial<MemberRow>]>([
    ['metadata', { metadata: Uint8Array.of(1) }],
    ['assignor', { assignor: 'range' }],
  ])('an instance with other %s begins a rebalance, or the assignor would never see it', (_, row) => {
    const scene = new CheckedScene();
    scene.step(topic(4), joinInstance('a1', 'a'), join('b'));
    scene.step(joinInstance('a2', 'a', row));
    expect(scene.group.generation).toBe(2);
  });

  test('does not hide what the one before it had changed and no rebalance had seen', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(4), joinInstance('a1', 'a'));
    const changed = { metadata: Uint8Array.of(1) };
    scene.step(joinInstance('a1', 'a', changed));
    scene.step(joinInstance('a2', 'a', changed));
    scene.nowMs = 3_000;
    scene.step(tick);
    expect(scene.group.generation).toBe(2);
  });

  test('an instance that changes there and back in one step writes nothing', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinInstance('a1', 'a'));
    expect(types(scene.step(joinInstance('a2', 'a'), joinInstance('a1', 'a')))).toEqual(['replaced', 'replaced']);
    expect(partitionsOf(scene.group, id('a1'))).toEqual([p(0), p(1)]);
  });

  test('does not come back for one that has left: it joins like any other', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinInstance('a1', 'a'));
    scene.step(leave('a1'), joinInstance('a2', 'a'));
    expect(seqs(scene)).toEqual(['a2 1']);
    expect(scene.group.holder(p(0))?.sinceGeneration).toBe(2);
  });

  test('takes the place that it took last, whoever went before it in the same step', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a', [1], { instanceId: 'one' }));
    const effects = scene.step(leave('a'), joinInstance('b', 'one'), joinInstance('a', 'one'));
    expect(types(effects).slice(1, 4)).toEqual(['removed', 'replaced', 'assigned']);
    expect(partitionsOf(scene.group, id('a'))).toEqual([p(0), p(1)]);
  });
});

describe('an earlier process of an instance, a zombie', () => {
  test('is not a member: what it says changes nothing', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinInstance('a1', 'a'));
    scene.step(joinInstance('a2', 'a'));
    expect(scene.step(alive('a1'), progress('a1', null), leave('a1'))).toEqual([]);
    expect(scene.group.member(id('a1'))).toBeUndefined();
    expect(partitionsOf(scene.group, id('a2'))).toEqual([p(0), p(1)]);
  });
});

describe('the instance of a leader', () => {
  test('a leader that restarts while its plan is awaited has a full rebalance timeout for it', () => {
    const scene = new CheckedScene();
    const row = { instanceId: 'a', rebalanceTimeoutMs: 5_000 };
    scene.step(topic(2), joinClassic('a1', ['even'], row), joinClassic('b'));
    scene.nowMs = 4_999;
    scene.step(joinClassic('a2', ['even'], row), alive('b'));
    scene.nowMs = 5_000;
    scene.step(tick);
    expect([scene.group.awaitsPlan, scene.group.leader]).toEqual([true, 'a2']);
    scene.nowMs = 9_999;
    scene.step(assign('a2', 1, 'a2', 'b'));
    expect(scene.group.state()).toBe('STABLE');
  });

  test('a restarted leader that sends no plan is removed in the end', () => {
    const scene = new CheckedScene();
    const row = { instanceId: 'a', rebalanceTimeoutMs: 5_000 };
    scene.step(topic(2), joinClassic('a1', ['even'], row), joinClassic('b'));
    scene.step(joinClassic('a2', ['even'], row));
    scene.nowMs = 5_000;
    scene.step(tick);
    scene.nowMs = 10_000;
    expect(scene.step(tick)).toContainEqual({ type: 'removed', memberId: 'a2', reason: 'REBALANCE_TIMEOUT' });
    expect([scene.group.awaitsPlan, scene.group.leader]).toEqual([true, 'b']);
  });

  test('a leader that restarts in the step of its plan gets the revocations of that plan', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinClassic('a1', ['even'], { instanceId: 'a' }));
    scene.step(assign('a1', 1, 'a1', 'a1'));
    scene.step(joinClassic('b'));
    const plan = assign('a1', 2, 'a1', 'b');
    const effects = scene.step(plan, joinClassic('a2', ['even'], { instanceId: 'a' }));
    expect(types(effects)).toEqual(['persist', 'replaced', 'revoking']);
    expect(revokingOf(scene.group, id('a2'))).toEqual([p(1)]);
  });
});

test('a topic that is withheld stays withheld from the instance that comes', () => {
  const scene = new CheckedScene();
  scene.step(topic(2), joinInstance('a1', 'a'));
  scene.step(hold(true));
  scene.step(joinInstance('a2', 'a'));
  scene.step(drained(0), drained(1));
  expect(partitionsOf(scene.group, id('a2'))).toEqual([]);
});
