import { describe, expect, test } from 'vitest';
import { Group, type AssignorName, type GroupSnapshot } from '../../src/coordinator/group.ts';
import { builtInAssignors } from '../../src/coordinator/assignors/built-in.ts';
import type { Assignor } from '../../src/coordinator/assignors/assignor.ts';
import { CheckedScene } from './invariants.ts';
import {
  accepts,
  alive,
  drained,
  id,
  join,
  joinByStream,
  leave,
  tick,
  topic,
  partitionsOf,
  revokingOf,
} from './scene.ts';

const p = (partition: number, topicId = 1) => ({ topicId, partition });
const held = (scene: CheckedScene, memberId: string) =>
  partitionsOf(scene.group, id(memberId)).map((ref) => ref.partition);

function fail(message: string): never {
  throw new Error(message);
}

describe('generations', () => {
  test('a late ack of the old holder that names the new generation changes nothing', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinByStream('a'));
    scene.step(joinByStream('b'));
    scene.step(drained(1));
    expect(scene.group.generation).toBe(2);
    expect(accepts(scene, 'b', 1, 2)).toBe(true);
    expect(accepts(scene, 'a', 1, 2)).toBe(false);
    expect(accepts(scene, 'a', 1, 1)).toBe(false);
  });

  test('a member that gets a partition back does not get its old acks back', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinByStream('a'));
    scene.step(joinByStream('b'));
    scene.step(drained(1));
    scene.step(leave('b'));
    expect(held(scene, 'a')).toEqual([0, 1]);
    expect(accepts(scene, 'a', 1, 3)).toBe(true);
    expect(accepts(scene, 'a', 1, 2)).toBe(false);
    expect(accepts(scene, 'a', 0, 1)).toBe(true);
  });

  test('a thousand joins in one step are one rebalance', () => {
    const scene = new CheckedScene();
    scene.step(topic(1_000), ...Array.from({ length: 1_000 }, (_, n) => joinByStream(`m${n}`)));
    expect(scene.group.generation).toBe(1);
    expect(scene.group.members().every(({ memberId }) => held(scene, memberId).length === 1)).toBe(true);
  });

  test('a topic that nobody reads is no rebalance', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinByStream('a'));
    expect(scene.step(topic(5, 2))).toEqual([]);
    expect(scene.group.generation).toBe(1);
  });

  test('a topic that is dropped and named again in one step has partitions that were never held', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinByStream('a'));
    const effects = scene.step(topic(0), topic(2));
    expect(effects.map((effect) => effect.type)).toEqual(['persist', 'revoked', 'assigned', 'rebalanced']);
    expect(accepts(scene, 'a', 0, 1)).toBe(false);
  });

  test('a member that leaves and joins again in one step is another member', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinByStream('a'));
    scene.step(leave('a'), joinByStream('a'));
    expect(scene.group.generation).toBe(2);
    expect(accepts(scene, 'a', 0, 1)).toBe(false);
    expect(scene.group.members()[0]?.joinSeq).toBe(1);
  });
});

describe('revocation', () => {
  test('a partition that its holder does not give back is taken at the rebalance timeout, not before', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a', [1], { rebalanceTimeoutMs: 5_000 }));
    scene.step(join('b'));
    scene.nowMs = 4_999;
    expect(scene.step(tick)).toEqual([]);
    scene.nowMs = 5_000;
    scene.step(tick);
    expect(held(scene, 'b')).toEqual([1]);
  });

  test('a member that confirms what it was not asked for keeps it', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'));
    scene.step(join('b'));
    expect(scene.step(alive('a', p(0)), alive('b', p(2)), alive('a', p(9)), alive('a', p(0, 7)))).toEqual([]);
    expect(held(scene, 'a')).toEqual([0, 1, 2, 3]);
  });

  test('word that a partition drained, which comes after it was kept after all, takes nothing', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinByStream('a'));
    scene.step(joinByStream('b'));
    const effects = scene.step(leave('b'));
    expect(effects).toContainEqual({ type: 'assigned', memberId: 'a', generation: 3, added: [p(1)] });
    expect(scene.step(drained(1))).toEqual([]);
    expect(scene.group.holder(p(1))).toEqual({ memberId: 'a', sinceGeneration: 1, revoking: false });
  });

  test('a partition on its way to one member may end with another, and is asked back once', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    scene.step(join('b'));
    const effects = scene.step(leave('b'), join('c'));
    expect(effects.map((effect) => effect.type)).toEqual(['persist', 'removed', 'rebalanced']);
    scene.step(drained(1));
    expect(held(scene, 'c')).toEqual([1]);
  });

  test('a member that stops reading a topic finishes it first, and then nobody holds it', () => {
    const scene = new CheckedScene();
    scene.step(topic(1), topic(1, 2), join('a', [1, 2]));
    scene.step(join('a', [1]));
    expect(scene.group.holder(p(0, 2))).toEqual({ memberId: 'a', sinceGeneration: 1, revoking: true });
    scene.step(drained(0, 2));
    expect(scene.group.holder(p(0, 2))).toBeUndefined();
    expect(scene.group.state()).toBe('STABLE');
  });

  test('a member that gives a partition back and leaves in one step is only told to be gone', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    scene.step(join('b'));
    const effects = scene.step(drained(1), leave('a'));
    expect(effects.map((effect) => effect.type)).toEqual([
      'persist',
      'removed',
      'assigned',
      'rebalanced',
      'rebalanced',
    ]);
    expect(held(scene, 'b')).toEqual([0, 1]);
  });

  test('a topic that is dropped is gone at once: there is nothing left to ack', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'), join('b'));
    const effects = scene.step(topic(0));
    expect(effects.map((effect) => effect.type)).toEqual(['persist', 'revoked', 'revoked']);
    expect(scene.group.snapshot().assignments).toEqual([]);
  });

  test('new partitions reach members that run, and the others stay', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'), join('b'));
    const effects = scene.step(topic(4));
    expect(effects.map((effect) => effect.type)).toEqual(['persist', 'assigned', 'assigned', 'rebalanced']);
  });
});

describe('liveness', () => {
  test('a heartbeat writes nothing, announces nothing and moves the deadline', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    scene.nowMs = 29_000;
    expect(scene.step(alive('a'))).toEqual([]);
    scene.nowMs = 30_000;
    expect(scene.step(tick)).toEqual([]);
    expect(scene.group.nextDeadlineMs()).toBe(59_000);
    scene.nowMs = 59_000;
    expect(scene.step(tick)).toContainEqual({ type: 'removed', memberId: 'a', reason: 'SESSION_TIMEOUT' });
  });

  test('a heartbeat in the same step as the end of its session is in time', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    scene.nowMs = 31_000;
    expect(scene.step(tick, alive('a'))).toEqual([]);
  });

  test('a member without a session timeout does not expire, however long it is silent', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), joinByStream('a'));
    scene.nowMs = 1e9;
    expect(scene.step(tick)).toEqual([]);
  });

  test('words of members that are gone change nothing', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    expect(scene.step(alive('x', p(0)), leave('x'))).toEqual([]);
  });

  test('a resume with other timeouts is written but moves nothing', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), join('a'));
    const effects = scene.step(join('a', [1], { sessionTimeoutMs: 6_000 }));
    expect(effects.map((effect) => effect.type)).toEqual(['persist']);
    expect(scene.group.generation).toBe(1);
    expect(scene.group.nextDeadlineMs()).toBe(6_000);
  });

  test('topics named twice or in another order are the same topics', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), topic(2, 2), join('a', [1, 2]));
    expect(scene.step(join('a', [2, 1, 2]))).toEqual([]);
  });
});

describe('takeover', () => {
  test('members that return within their session timeout resume without a rebalance', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'), join('b'));
    scene.nowMs = 1_000_000;
    scene.takeOver();
    expect(scene.step(tick)).toEqual([]);
    scene.nowMs += 29_999;
    expect(scene.step(join('a'), alive('b'))).toEqual([]);
    expect(scene.group.generation).toBe(1);
  });

  test('a member that does not return within its session timeout is removed', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'), join('b'));
    scene.takeOver();
    scene.step();
    scene.nowMs = 20_000;
    scene.step(alive('a'));
    scene.nowMs = 30_000;
    expect(scene.step(tick)).toContainEqual({ type: 'removed', memberId: 'b', reason: 'SESSION_TIMEOUT' });
    expect(held(scene, 'a')).toEqual([0, 1, 2, 3]);
  });

  test('members that lived by their streams are removed in one rebalance', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'), joinByStream('b'), joinByStream('c'));
    scene.takeOver();
    scene.step();
    expect(scene.group.generation).toBe(2);
    expect(scene.group.members().map((row) => row.memberId)).toEqual(['a']);
  });

  test('a topic that was dropped while no broker ran is taken from its holders', () => {
    const scene = new CheckedScene();
    scene.step(topic(2), topic(2, 2), join('a', [1, 2]));
    const group = new Group(scene.durable.snapshot(), 0);
    const effects = group.step([topic(2)], 0);
    expect(effects).toContainEqual({ type: 'revoked', memberId: 'a', partitions: [p(0, 2), p(1, 2)], stalled: false });
    expect(partitionsOf(group, id('a'))).toEqual([p(0), p(1)]);
  });

  test('rows that do not belong together are not loaded', () => {
    const broken: GroupSnapshot = {
      generation: 1,
      members: [],
      assignments: [{ topicId: 1, partition: 0, memberId: id('a'), sinceGeneration: 1 }],
    };
    expect(() => new Group(broken, 0)).toThrow('not a member');
  });
});

describe('assignors', () => {
  test.each<[AssignorName, number[], number[]]>([
    ['range', [0, 1], [2, 3]],
    ['round_robin', [0, 2], [1, 3]],
    ['sticky', [0, 2], [1, 3]],
  ])('%s is that of the member that joined first', (assignor, first, second) => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a', [1], { assignor }), join('b', [1], { assignor: 'range' }));
    expect(scene.group.assignor).toBe(assignor);
    expect(held(scene, 'a')).toEqual(first);
    expect(held(scene, 'b')).toEqual(second);
  });

  test('when the first member changes its mind the group is assigned anew', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'), join('b'));
    scene.step(join('a', [1], { assignor: 'range' }));
    expect(scene.revoking().map(({ ref }) => ref.partition)).toEqual([2, 1]);
  });

  test('when the first member leaves the next one decides', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'), join('b', [1], { assignor: 'range' }));
    scene.step(leave('a'));
    expect(scene.group.assignor).toBe('range');
  });

  test('an assignor that this broker does not have is replaced by sticky, and asked again where it is', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a', [1], { assignor: 'range' }), join('b', [1], { assignor: 'range' }));
    const rows = scene.durable.snapshot();
    const group = new Group(rows, 0, { assignors: new Map([['sticky', builtInAssignors.get('sticky')!]]) });
    expect(group.step([topic(4)], 0)).toMatchObject([{ type: 'assignorFailed', assignor: 'range' }]);
    expect([group.assignor, partitionsOf(group, id('a'))]).toEqual(['range', [p(0), p(1)]]);
  });

  test.each<[string, Assignor]>([
    ['forgets a topic', () => new Map()],
    ['forgets a partition', () => new Map([[1, Int32Array.from([0, -1])]])],
    ['names a member that there is not', () => new Map([[1, Int32Array.from([0, 7])]])],
    ['gives a partition to a member that does not read it', () => new Map([[1, Int32Array.from([0, 1])]])],
    ['makes up a partition', () => new Map([[1, Int32Array.from([0, 0, 0])]])],
    ['throws', () => fail('it is in a bad mood')],
  ])('an assignor that %s is caught before anybody is told, and whoever brought it is refused', (_, broken) => {
    const scene = new CheckedScene({ assignors: new Map([...builtInAssignors, ['broken', broken]]) });
    scene.step(topic(2));
    const joins = [join('a', [1], { assignor: 'broken' }), join('b', [2], { assignor: 'broken' })];
    const effects = scene.step(...joins);
    expect(effects.map((effect) => (effect.type === 'refused' ? [effect.input, effect.reason] : effect))).toEqual(
      joins.map((input) => [input, 'ASSIGNOR_FAILED']),
    );
    expect([scene.group.state(), scene.group.generation]).toEqual(['EMPTY', 0]);
  });
});

test('what a member holds is listed by topic and partition, with what it has to give back', () => {
  const scene = new CheckedScene();
  scene.step(topic(2, 2), topic(2, 1), join('a', [1, 2]));
  scene.step(join('b', [1, 2]));
  expect(partitionsOf(scene.group, id('a'))).toEqual([p(0), p(1), p(0, 2), p(1, 2)]);
  expect(revokingOf(scene.group, id('a'))).toEqual([p(0, 2), p(1, 2)]);
  expect(partitionsOf(scene.group, id('nobody'))).toEqual([]);
});
