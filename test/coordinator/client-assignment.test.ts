import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Group } from '../../src/coordinator/group.ts';
import type { GroupInput } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import { property } from './property.ts';
import { alive, assign, drained, id, join, joinClassic, leave, progress, tick, topic, partitionsOf } from './scene.ts';

const types = (effects: readonly { readonly type: string }[]) => effects.map(({ type }) => type);
const p = (partition: number) => ({ topicId: 1, partition });

/** a leads, and has given itself and b two partitions each. */
function planned(): CheckedScene {
  const scene = new CheckedScene();
  scene.step(topic(4), joinClassic('a'), joinClassic('b'));
  scene.step(assign('a', 1, 'a', 'a', 'b', 'b'));
  return scene;
}

describe('members that assign by themselves', () => {
  test('hold nothing until their leader has said who gets what', () => {
    const scene = new CheckedScene();
    const effects = scene.step(topic(2), joinClassic('a', ['odd', 'even']), joinClassic('b', ['even']));
    expect(types(effects)).toEqual(['persist']);
    expect([scene.group.leader, scene.group.assignor, scene.group.awaitsPlan]).toEqual(['a', 'even', true]);
    scene.step(assign('a', 1, 'b', 'a'));
    expect([partitionsOf(scene.group, id('a')), partitionsOf(scene.group, id('b'))]).toEqual([[p(1)], [p(0)]]);
    expect([scene.group.generation, scene.group.state()]).toEqual([1, 'STABLE']);
  });

  test('keep what they hold while the next plan is awaited, and give back what it gives to others', () => {
    const scene = planned();
    scene.step(joinClassic('c'));
    expect(scene.group.snapshot().assignments.map((row) => row.memberId)).toEqual(['a', 'a', 'b', 'b']);
    expect(types(scene.step(assign('a', 2, 'a', 'c', 'b', 'b')))).toEqual(['revoking']);
    scene.step(drained(1));
    expect(scene.group.holder(p(1))).toEqual({ memberId: 'c', sinceGeneration: 2, revoking: false });
  });

  test('leave their partitions to nobody until the next plan: no broker rule steps in', () => {
    const scene = planned();
    scene.step(leave('b'));
    expect([scene.group.holder(p(2)), scene.group.holder(p(3))]).toEqual([undefined, undefined]);
    scene.step(assign('a', 2, 'a', 'a', 'a', 'a'));
    expect(partitionsOf(scene.group, id('a')).length).toBe(4);
  });

  test('have the next one as leader when theirs leaves', () => {
    const scene = planned();
    scene.step(leave('a'));
    expect(scene.group.leader).toBe('b');
    scene.step(assign('b', 2, 'b', 'b', 'b', 'b'));
    expect(scene.group.state()).toBe('STABLE');
  });

  test('are not held up by a leader that makes no plan: it is removed at its rebalance timeout', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinClassic('a', ['even'], { rebalanceTimeoutMs: 5_000 }), joinClassic('b'));
    scene.nowMs = 4_999;
    expect(scene.step(alive('a'), tick)).toEqual([]);
    scene.nowMs = 5_000;
    expect(scene.step(alive('a'), tick)).toContainEqual({
      type: 'removed',
      memberId: 'a',
      reason: 'REBALANCE_TIMEOUT',
    });
    expect([scene.group.leader, scene.group.awaitsPlan]).toEqual(['b', true]);
  });

  test('do not lose their leader for a plan that nobody can take while changes are gathered', () => {
    const scene = new CheckedScene({ gatherMs: 8_000 });
    scene.step(topic(2), joinClassic('a', ['even'], { rebalanceTimeoutMs: 5_000 }));
    scene.nowMs = 4_000;
    scene.step(joinClassic('b'));
    scene.nowMs = 5_000;
    scene.step(tick);
    scene.nowMs = 8_000;
    scene.step(tick);
    expect([scene.group.leader, scene.group.generation, scene.group.awaitsPlan]).toEqual(['a', 2, true]);
  });
});

describe('a plan', () => {
  test.each([
    ['leaves', leave('b')],
    ['joins with other options', joinClassic('b', ['even'], { metadata: Uint8Array.of(1) })],
  ])('asks nothing of a member that %s in the same step', (_, word) => {
    const scene = planned();
    scene.step(joinClassic('c'));
    const effects = scene.step(assign('a', 2, 'a', 'a', 'b', 'c'), word);
    expect(types(effects)).not.toContain('revoking');
  });

  test('asks nothing of a member whose session ends in the same step', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), joinClassic('a'), joinClassic('b', ['even'], { sessionTimeoutMs: 6_000 }));
    scene.step(assign('a', 1, 'a', 'a', 'b', 'b'));
    scene.step(joinClassic('c'));
    scene.nowMs = 6_000;
    const effects = scene.step(assign('a', 2, 'a', 'a', 'b', 'c'));
    expect(types(effects)).not.toContain('revoking');
    expect([scene.group.generation, scene.group.awaitsPlan]).toEqual([3, true]);
  });

  test('gives nothing to a member that has stalled, nor lets the leader', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinClassic('a'), joinClassic('b', ['even'], { maxPollIntervalMs: 2_000 }));
    scene.step(assign('a', 1, 'a', 'b'));
    scene.busySinceMs.set(id('b'), 0);
    scene.nowMs = 2_000;
    scene.step(tick);
    expect(types(scene.step(assign('a', 2, 'a', 'b')))).toEqual(['refused']);
    scene.step(assign('a', 2, 'a', 'a'));
    scene.busySinceMs.clear();
    scene.step(progress('b', null));
    expect([scene.group.generation, scene.group.awaitsPlan]).toEqual([3, true]);
  });
});

describe('a takeover', () => {
  test('leaves a group that had its plan alone', () => {
    const scene = planned();
    scene.takeOver();
    expect(scene.step(tick)).toEqual([]);
    expect(scene.group.state()).toBe('STABLE');
  });

  test('asks again for a plan that had not come', () => {
    const scene = planned();
    scene.step(joinClassic('c'));
    scene.takeOver();
    scene.step(tick);
    expect([scene.group.generation, scene.group.awaitsPlan]).toEqual([3, true]);
  });

  test('a takeover in the middle of a move asks for a plan again, and nothing moves in the old generation', () => {
    const scene = new CheckedScene();
    scene.step(topic(1), topic(1, 2), join('a', [1, 2], { kind: 'CLASSIC', clientAssignors: ['even'] }));
    const all = [1, 2].map((topicId) => ({ topicId, partition: 0, memberId: id('a') }));
    scene.step({ type: 'assign', memberId: id('a'), generation: 1, plan: all });
    scene.step(join('a', [1], { kind: 'CLASSIC', clientAssignors: ['even'] }));
    scene.takeOver();
    scene.step(tick);
    expect([scene.group.generation, scene.group.awaitsPlan]).toEqual([3, true]);
  });
});

describe('the room of the task for a leader', () => {
  const bytesMax = 1_000;
  const bytesOf = ({ metadata }: { readonly metadata: Uint8Array }): number => metadata.length;
  const process = (instance: number, time: number) => `m${instance}-${time}`;
  const joinWith = (member: number, time: number, bytes: number, rules: string[]): GroupInput => {
    return joinClassic(process(member, time), rules, { instanceId: `m${member}`, metadata: new Uint8Array(bytes) });
  };

  test('a member that left, changed or was replaced still counts in the room of a task, or one that is there does not', () => {
    const inputs = fc.array(
      fc.record({
        what: fc.constantFrom('join', 'join', 'leave'),
        member: fc.nat(5),
        time: fc.nat(1),
        bytes: fc.nat(600),
        rules: fc.constantFrom<string[]>(['even'], ['even', 'odd'], ['odd', 'even'], ['odd'], []),
      }),
      { maxLength: 40 },
    );
    const sums = fc.property(inputs, (steps) => {
      const group = new Group({ generation: 0, members: [], assignments: [] }, 0, { task: { bytesMax, bytesOf } });
      for (const { what, member, time, bytes, rules } of steps) {
        const others = group.members().filter(({ instanceId }) => instanceId !== `m${member}`);
        const input = what === 'leave' ? leave(process(member, time)) : joinWith(member, time, bytes, rules);
        const refused = group.step([input], 0).find(({ type }) => type === 'refused');
        if (what === 'leave') continue;
        const total = others.reduce((sum, row) => sum + bytesOf(row), bytes);
        const common = ['even', 'odd'].some((rule) =>
          [...others.map((row) => row.clientAssignors), rules].every((of) => of.includes(rule)),
        );
        const agrees = others.length === 0 || common || (rules.length === 0 && others[0]?.clientAssignors.length === 0);
        const tooLarge = rules.length > 0 && total > bytesMax;
        const reason = agrees ? (tooLarge ? 'TASK_TOO_LARGE' : undefined) : 'INCONSISTENT_PROTOCOLS';
        expect(refused === undefined ? undefined : 'reason' in refused && refused.reason).toBe(reason);
        const first = group
          .members()[0]
          ?.clientAssignors.find((rule) => group.members().every((row) => row.clientAssignors.includes(rule)));
        expect(group.assignor).toBe(first ?? 'sticky');
      }
    });
    fc.assert(sums, property(200));
  });

  test('a thousand members that join, come back and change at once are each weighed against all others', () => {
    let weighed = 0;
    const task = {
      bytesMax: Infinity,
      bytesOf: () => {
        weighed++;
        return 1;
      },
    };
    const group = new Group({ generation: 0, members: [], assignments: [] }, 0, { task });
    const all = (time: number, rules: string[]) =>
      Array.from({ length: 1_000 }, (_, at) => joinWith(at, time, 1, rules));
    for (const joins of [all(0, ['even']), all(1, ['even']), all(1, ['even', 'odd'])]) group.step(joins, 0);
    expect(group.members().length).toBe(1_000);
    expect(weighed).toBeLessThanOrEqual(10_000);
  });
});
