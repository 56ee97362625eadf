import { describe, expect, test } from 'vitest';
import { CheckedScene } from './invariants.ts';
import { alive, drained, id, join, leave, progress, tick, topic, partitionsOf } from './scene.ts';

const short = { maxPollIntervalMs: 10_000 };
const p = (partition: number) => ({ topicId: 1, partition });

/** a acks nothing from the beginning; b has nothing to ack. */
function scene(): CheckedScene {
  const one = new CheckedScene();
  one.step(topic(4), join('a', [1], short), join('b', [1], short));
  one.busySinceMs.set(id('a'), 0);
  return one;
}

describe('a member that does not work on what it was given', () => {
  test('loses everything at once, and stays a member that gets nothing', () => {
    const one = scene();
    one.nowMs = 9_999;
    expect(one.group.overdue(one.nowMs)).toEqual([]);
    one.nowMs = 10_000;
    expect(one.group.overdue(one.nowMs)).toEqual(['a', 'b']);
    const effects = one.step(alive('a'), tick);
    expect(effects).toContainEqual({ type: 'revoked', memberId: 'a', partitions: [p(0), p(2)], stalled: true });
    expect(one.group.isStalled(id('a'))).toBe(true);
    expect(partitionsOf(one.group, id('b')).length).toBe(4);
    one.step(leave('b'));
    expect(partitionsOf(one.group, id('a'))).toEqual([]);
    expect(one.group.state()).toBe('STABLE');
  });

  test.each([
    ['acks again', progress('a', null)],
    ['joins again with other options', join('a', [1], { ...short, metadata: Uint8Array.of(1) })],
  ])('gets its share again when it %s, not before', (_, word) => {
    const one = scene();
    one.nowMs = 10_000;
    one.step(tick);
    expect(one.step(alive('a'))).toEqual([]);
    one.busySinceMs.clear();
    one.step(word);
    expect(one.revoking().length).toBe(2);
  });

  test('a member that resumes before the rebalance gets its partitions back, but not its late acks', () => {
    const one = new CheckedScene({ gatherMs: 60_000 });
    const row = { ...short, sessionTimeoutMs: null };
    one.step(topic(4), join('a', [1], row), join('b', [1], row));
    one.busySinceMs.set(id('a'), 0);
    one.nowMs = 10_000;
    one.step(tick);
    one.busySinceMs.clear();
    one.step(progress('a', null));
    one.nowMs = 60_000;
    one.step(tick);
    expect(one.group.holder(p(0))).toEqual({ memberId: 'a', sinceGeneration: 2, revoking: false });
  });

  test('loses also what it was asked to give back, and is not waited for', () => {
    const one = new CheckedScene();
    one.step(topic(2), join('a', [1], { ...short, sessionTimeoutMs: null }));
    one.busySinceMs.set(id('a'), 0);
    one.nowMs = 5_000;
    one.step(join('b'));
    one.nowMs = 10_000;
    one.step(tick);
    expect(partitionsOf(one.group, id('b'))).toEqual([p(0), p(1)]);
    expect(one.group.state()).toBe('STABLE');
  });
});

describe('a member that is asked whether it works', () => {
  test('loses nothing if it has nothing to ack, however long', () => {
    const one = scene();
    one.busySinceMs.clear();
    for (one.nowMs = 0; one.nowMs < 100_000; one.nowMs += 10_000) expect(one.step(alive('a'), alive('b'))).toEqual([]);
  });

  test('is measured from when it got what it has, not from when it was asked', () => {
    const one = scene();
    one.busySinceMs.set(id('a'), 8_000);
    one.nowMs = 10_000;
    expect(one.step(alive('a'), alive('b'))).toEqual([]);
    expect(one.group.nextDeadlineMs()).toBe(18_000);
    one.nowMs = 18_000;
    one.step(alive('a'), alive('b'));
    expect(one.group.isStalled(id('a'))).toBe(true);
  });

  test('is not stalled when it holds nothing', () => {
    const one = new CheckedScene();
    one.step(join('a', [1], { ...short, sessionTimeoutMs: null }));
    one.busySinceMs.set(id('a'), 0);
    one.nowMs = 10_000;
    expect(one.step(tick)).toEqual([]);
    expect(one.group.isStalled(id('a'))).toBe(false);
  });
});

test('another process of an instance that stalled gets its share: it has not been idle', () => {
  const one = new CheckedScene();
  one.step(topic(4), join('a1', [1], { ...short, instanceId: 'a' }), join('b', [1], short));
  one.busySinceMs.set(id('a1'), 0);
  one.nowMs = 10_000;
  one.step(tick);
  one.step(join('a2', [1], { ...short, instanceId: 'a' }));
  expect(one.group.isStalled(id('a2'))).toBe(false);
  expect(one.revoking().length).toBe(2);
});

test('when all have stalled nobody holds anything, and the first that works again gets all', () => {
  const one = scene();
  one.busySinceMs.set(id('b'), 0);
  one.nowMs = 10_000;
  one.step(tick);
  expect(one.group.snapshot().assignments).toEqual([]);
  one.busySinceMs.delete(id('b'));
  one.step(progress('b', null));
  expect(partitionsOf(one.group, id('b')).length).toBe(4);
});

test('after a takeover nobody is stalled: the new broker has not seen anybody idle', () => {
  const one = scene();
  one.nowMs = 10_000;
  one.step(tick);
  one.takeOver();
  one.step(drained(0));
  expect(one.group.isStalled(id('a'))).toBe(false);
  expect(one.revoking().length).toBe(2);
});
