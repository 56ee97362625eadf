import { describe, expect, test } from 'vitest';
import { CheckedScene } from './invariants.ts';
import { alive, drained, id, join, joinByStream, joinInstance, leave, tick, topic, partitionsOf } from './scene.ts';

const types = (effects: readonly { readonly type: string }[]) => effects.map(({ type }) => type);

describe('a group that gathers changes', () => {
  test('has a hundred joins in one rebalance, the first of them at once', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(100), join('m0'));
    expect(partitionsOf(scene.group, id('m0')).length).toBe(100);
    for (let n = 1; n < 100; n++) {
      scene.nowMs = n * 10;
      expect(scene.step(join(`m${n}`))).toEqual([]);
    }
    expect([scene.group.state(), scene.group.nextDeadlineMs()]).toEqual(['PREPARING_REBALANCE', 3_000]);
    scene.nowMs = 2_999;
    expect(scene.step(tick)).toEqual([]);
    scene.nowMs = 3_000;
    expect(types(scene.step(tick))).toEqual(['persist', 'revoking']);
    expect(scene.group.generation).toBe(2);
  });

  test('has nothing durable of it, so that a broker that dies leaves the group as it was', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(4), join('a'));
    const before = scene.durable.snapshot();
    scene.step(join('b'), leave('a'), topic(2));
    scene.takeOver();
    expect(scene.group.snapshot()).toEqual(before);
  });

  test('does not wait for the rebalance with what nobody waits for: the last member goes at once', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(4), joinByStream('a'));
    scene.step(joinByStream('b'));
    expect(scene.step(leave('b'))).toEqual([]);
    expect(types(scene.step(leave('a')))).toEqual(['persist', 'removed', 'removed', 'rebalanced']);
    expect(scene.group.state()).toBe('EMPTY');
  });

  test('does not give out what is given back meanwhile, to whom the rebalance may not give it', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(2), join('a'));
    scene.nowMs = 3_000;
    scene.step(join('b'));
    scene.step(leave('b'), drained(1));
    expect(scene.durable.snapshot().assignments.map((row) => row.memberId)).toEqual(['a', 'a']);
    scene.nowMs = 6_000;
    scene.step(tick, alive('a'));
    expect(scene.group.holder({ topicId: 1, partition: 1 })).toEqual({
      memberId: 'a',
      sinceGeneration: 3,
      revoking: false,
    });
  });

  test('tells a new process of an instance what was taken from the one before it', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(2), joinInstance('a1', 'a'));
    scene.nowMs = 3_000;
    scene.step(join('b'));
    scene.step(topic(3));
    scene.step(alive('a1', { topicId: 1, partition: 1 }));
    scene.step(joinInstance('a2', 'a'));
    scene.nowMs = 6_000;
    const effects = scene.step(tick);
    expect(effects).toContainEqual({ type: 'replaced', memberId: 'a2', oldMemberId: 'a1' });
    const partitions = [{ topicId: 1, partition: 1 }];
    expect(effects).toContainEqual({ type: 'revoked', memberId: 'a2', partitions, stalled: false });
  });

  test('begins no generation for who came and went between two rebalances', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(2), join('a'));
    scene.step(join('b'));
    scene.step(leave('b'));
    scene.nowMs = 3_000;
    expect(types(scene.step(tick))).toEqual(['removed']);
    expect(scene.group.generation).toBe(1);
  });

  test('tells what each rebalance was for, and what it moved', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(4), join('a'));
    scene.nowMs = 1_000;
    scene.step(join('b'));
    scene.step(join('c'), topic(6));
    scene.nowMs = 3_000;
    scene.step(tick);
    scene.nowMs = 4_000;
    const effects = scene.step(...scene.revoking().map(({ ref }) => drained(ref.partition)));
    const causes = [
      { reason: 'MEMBER_JOINED', memberId: 'b', count: 2 },
      { reason: 'PARTITIONS_CHANGED', memberId: null, count: 1 },
    ];
    const counts = { memberCount: 3, assignedCount: 4, revokedCount: 2 };
    const rebalance = { generation: 2, causes, durationMs: 3_000, ...counts, completed: true };
    expect(effects).toContainEqual({ type: 'rebalanced', rebalance });
  });

  test('counts a partition that its member may keep after all neither as taken nor as given', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    scene.step(join('b'));
    const effects = scene.step(leave('b'));
    const reported = effects.flatMap((effect) => (effect.type === 'rebalanced' ? [effect.rebalance] : []));
    expect(
      reported.map(({ completed, assignedCount, revokedCount }) => [completed, assignedCount, revokedCount]),
    ).toEqual([
      [false, 0, 0],
      [true, 0, 0],
    ]);
  });
});
