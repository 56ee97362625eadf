import { describe, expect, test } from 'vitest';
import type { GroupEffect, PartitionRef } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import { drained, id, join, joinByStream, key, leave, topic } from './scene.ts';

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
    expect(scene.group.members().map(({ memberId }) => [memberId, scene.group.partitionsOf(memberId).length])).toEqual([
      ['a', 2],
      ['b', 2],
      ['c', 2],
    ]);
  });

  test('a member that is 100 ms slower than others to give back is waited for, not left out', () => {
    const scene = new CheckedScene();
    scene.step(topic(6), join('a'), join('b'));
    scene.step(join('c'));
    const [first, second] = scene.revoking();
    scene.step(drained(first?.ref.partition ?? -1));
    scene.nowMs = 100;
    expect(scene.group.member(id('b'))).toBeDefined();
    expect(scene.group.awaits(id('c'))).toBe(true);
    scene.step(drained(second?.ref.partition ?? -1));
    expect(scene.group.awaits(id('c'))).toBe(false);
    expect(scene.group.partitionsOf(id('c')).length).toBe(2);
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
      // An ack that names the generation before the rebalance is one of a generation in which the member held it.
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
      return [];
  }
}
