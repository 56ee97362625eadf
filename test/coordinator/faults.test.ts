import { describe, expect, test } from 'vitest';
import type { GroupEffect, PartitionRef } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import {
  accepts,
  alive,
  assign,
  drained,
  id,
  join,
  joinByStream,
  joinClassic,
  key,
  leave,
  progress,
  Scene,
  tick,
  topic,
  partitionsOf,
} from './scene.ts';

describe("fault 2: a crashed worker's claim is given back, though its group still looks alive", () => {
  const all = (scene: CheckedScene) => partitionsOf(scene.group, id('b')).length;

  test('a lost stream frees the partitions at once', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), joinByStream('a'), join('b'));
    scene.step(leave('a', 'STREAM_LOST'));
    expect(all(scene)).toBe(4);
  });

  test('a silent member loses its partitions at the end of its session, whatever other members send', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'), join('b'));
    for (let ms = 5_000; ms <= 30_000; ms += 5_000) {
      scene.nowMs = ms;
      scene.step(alive('b'));
    }
    expect(all(scene)).toBe(4);
  });

  test('a member that heartbeats and hangs loses its partitions at the end of its max poll interval', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a', [1], { maxPollIntervalMs: 20_000 }), join('b'));
    scene.busySinceMs.set(id('a'), 0);
    scene.nowMs = 20_000;
    scene.step(alive('a'), alive('b'));
    expect(all(scene)).toBe(4);
  });

  test('a member that does not give a partition back loses it at its rebalance timeout', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a', [1], { rebalanceTimeoutMs: 10_000 }));
    scene.step(join('b'));
    scene.nowMs = 10_000;
    scene.step(alive('a'), alive('b'));
    expect(all(scene)).toBe(2);
  });

  test('a leader that sends no plan is removed at its rebalance timeout', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), joinClassic('a', ['even'], { rebalanceTimeoutMs: 10_000 }), joinClassic('b'));
    scene.nowMs = 10_000;
    scene.step(alive('a'), alive('b'));
    scene.step(assign('b', 2, 'b', 'b', 'b', 'b'));
    expect(all(scene)).toBe(4);
  });

  test('after a crash of the broker sessions count from the takeover, and members with streams are gone', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'), join('b'), joinByStream('c'));
    scene.nowMs = 100_000;
    scene.takeOver();
    scene.step(alive('b'));
    expect(scene.group.member(id('c'))).toBeUndefined();
    scene.nowMs = 129_000;
    scene.step(alive('b'));
    scene.nowMs = 130_000;
    scene.step(tick);
    expect(all(scene)).toBe(4);
  });
});

describe('fault 5: a graceful stop, then a start: the group reports success and receives nothing', () => {
  test.each([
    ['at once', 0],
    ['while the group still gathers', 3_000],
  ])('members that all left and come again get every partition, %s', (_, gatherMs) => {
    const scene = new CheckedScene({ gatherMs });
    scene.step(topic(4), join('a'), join('b'));
    scene.step(leave('a'), leave('b'));
    expect(scene.group.state()).toBe('EMPTY');
    scene.step(join('a'), join('b'));
    scene.nowMs = gatherMs;
    scene.step(tick);
    expect(scene.group.snapshot().assignments.length).toBe(4);
  });

  test('members that all left get every partition again from another broker', () => {
    const scene = new CheckedScene();
    scene.step(topic(4), join('a'));
    scene.step(leave('a'));
    scene.takeOver();
    scene.step(join('a'));
    expect(partitionsOf(scene.group, id('a')).length).toBe(4);
    expect(scene.group.generation).toBe(3);
  });
});

describe('fault 15: an ack that comes when the partition went to someone else is not counted', () => {
  const taken: readonly [string, (scene: CheckedScene) => void][] = [
    [
      'its session ended',
      (scene) => {
        scene.nowMs = 30_000;
        scene.step(alive('b'), alive('c'));
      },
    ],
    [
      'it stalled',
      (scene) => {
        scene.busySinceMs.set(id('a'), 0);
        scene.nowMs = 20_000;
        scene.step(alive('a'), alive('b'), alive('c'));
      },
    ],
    ['it left', (scene) => scene.step(leave('a'))],
    ['its instance has a newer process', (scene) => scene.step(join('a2', [1], { instanceId: 'one' }))],
  ];

  test.each(taken)('a late ack does not count: %s', (_, take) => {
    const scene = new CheckedScene();
    scene.step(topic(3), join('a', [1], { instanceId: 'one', maxPollIntervalMs: 20_000 }), join('b'), join('c'));
    expect(accepts(scene, 'a', 0, 1)).toBe(true);
    take(scene);
    for (let generation = 0; generation <= scene.group.generation; generation++)
      expect(accepts(scene, 'a', 0, generation)).toBe(false);
  });

  test('a late ack does not count after the partition went to another member and came back', () => {
    const scene = new CheckedScene();
    scene.step(topic(1), join('a', [1], { maxPollIntervalMs: 20_000 }), join('b'));
    scene.busySinceMs.set(id('a'), 0);
    scene.nowMs = 20_000;
    scene.step(alive('a'), alive('b'));
    scene.step(progress('a', null), leave('b'));
    expect([accepts(scene, 'a', 0, 3), accepts(scene, 'a', 0, 2), accepts(scene, 'a', 0, 1)]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe('fault 20: heartbeats each write a row', () => {
  test('a thousand members that heartbeat for a minute write nothing and are told nothing', () => {
    const scene = new Scene();
    const names = Array.from({ length: 1_000 }, (_, n) => `m${n}`);
    scene.step(topic(1_000), ...names.map((name) => join(name)));
    for (let ms = 3_000; ms <= 60_000; ms += 3_000) {
      scene.nowMs = ms;
      for (const name of names) expect(scene.step(alive(name))).toEqual([]);
    }
  });
});

describe('fault 21: "sticky" that ignores the previous assignment; a join that is missing a member slow by 100 ms', () => {
  test('sticky leaves partitions where they lie, however odd that is', () => {
    const scene = new CheckedScene();
    scene.step(topic(6), joinByStream('a'), joinByStream('b'), joinByStream('c'));
    scene.step(leave('b'));
    const before = scene.group.snapshot().assignments;
    scene.step(joinByStream('d'));
    scene.step(...scene.revoking().map(({ ref }) => drained(ref.partition)));
    const moved = before.filter((row) => scene.group.holder(row)?.memberId !== row.memberId);
    expect(moved.length).toBe(2);
    expect(moved.map((row) => scene.group.holder(row)?.memberId)).toEqual(['d', 'd']);
  });

  test('a member that joins 100 ms after the others gets its share, and they stay members', () => {
    const scene = new CheckedScene();
    scene.step(topic(6), join('a'), join('b'));
    scene.nowMs = 100;
    scene.step(join('c'));
    scene.step(...scene.revoking().map(({ ref }) => drained(ref.partition)));
    expect(scene.group.members().map(({ memberId }) => [memberId, partitionsOf(scene.group, memberId).length])).toEqual(
      [
        ['a', 2],
        ['b', 2],
        ['c', 2],
      ],
    );
  });

  test('a member that joins 100 ms after the others belongs into the same rebalance, where changes are gathered', () => {
    const scene = new CheckedScene({ gatherMs: 3_000 });
    scene.step(topic(6), join('a'));
    scene.step(join('b'));
    scene.nowMs = 100;
    scene.step(join('c'));
    scene.nowMs = 3_000;
    scene.step(tick);
    scene.step(...scene.revoking().map(({ ref }) => drained(ref.partition)));
    expect(scene.group.generation).toBe(2);
    expect(partitionsOf(scene.group, id('c')).length).toBe(2);
  });

  test('a member that is 100 ms slower than others to give back is waited for, not left out', () => {
    const scene = new CheckedScene();
    scene.step(topic(6), join('a'), join('b'));
    scene.step(join('c'));
    const [first, second] = scene.revoking();
    scene.step(drained(first?.ref.partition ?? -1));
    scene.nowMs = 100;
    expect(scene.group.member(id('b'))).toBeDefined();
    expect(scene.group.state()).toBe('COMPLETING_REBALANCE');
    scene.step(drained(second?.ref.partition ?? -1));
    expect(scene.group.state()).toBe('STABLE');
    expect(partitionsOf(scene.group, id('c')).length).toBe(2);
    expect(scene.group.generation).toBe(2);
  });
});

describe('fault 22: a rebalance pauses partitions that do not move', () => {
  test.each([
    ['a join', [joinByStream('d')]],
    ['a leave', [leave('b')]],
    ['a join and a leave at once', [joinByStream('d'), leave('b')]],
    ['more partitions', [topic(12)]],
    ['another topic', [topic(5, 2)]],
  ])('%s says nothing about them, and their acks stay good', (_, inputs) => {
    const scene = new CheckedScene();
    scene.step(topic(9), ...['a', 'b', 'c'].map((name) => joinByStream(name, [1, 2])));
    const before = scene.group.snapshot();
    const effects = scene.step(...inputs);
    expect(scene.group.generation).toBe(before.generation + 1);
    const named = new Set(effects.flatMap(partitionsNamed).map(key));
    const kept = before.assignments.filter((row) => {
      const now = scene.group.holder(row);
      return now?.memberId === row.memberId && !now.revoking;
    });
    expect(kept.length).toBeGreaterThanOrEqual(6);
    for (const row of kept) {
      expect(named).not.toContain(key(row));
      // An ack that names the generation before the rebalance is one of a generation in which the
      // member held it.
      expect(scene.group.holder(row)?.sinceGeneration).toBeLessThanOrEqual(before.generation);
    }
  });
});

function partitionsNamed(effect: GroupEffect): readonly PartitionRef[] {
  switch (effect.type) {
    case 'assigned':
      return effect.added;
    case 'revoking':
    case 'revoked':
      return effect.partitions;
    case 'persist':
      return [...effect.change.putAssignments, ...effect.change.removedAssignments];
    case 'removed':
    case 'replaced':
    case 'refused':
    case 'assignorFailed':
    case 'rebalanced':
      return [];
  }
}
