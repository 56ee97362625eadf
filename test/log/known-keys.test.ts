import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { KnownKeys } from '../../src/log/known-keys.ts';
import { property } from '../coordinator/property.ts';
import { records, Scene } from './scene.ts';

const windowMs = 1_000;
const hit = (offset: number) => ({ partition: 0, offset });

describe('idempotency keys in memory', () => {
  test('an idempotency key is known until its window has passed, and not longer', () => {
    const keys = new KnownKeys(10, -Infinity);
    keys.add('k', hit(7), 0);
    expect(keys.find('k', windowMs, 999)).toMatchObject(hit(7));
    expect(keys.find('k', windowMs, 1_000)).toBeNull();
  });

  test('an idempotency key that is stored again after its window outlives older keys in the cache', () => {
    const keys = new KnownKeys(2, -Infinity);
    keys.add('a', hit(0), 0);
    keys.add('b', hit(1), 10);
    keys.add('a', hit(2), 1_005);
    keys.add('c', hit(3), 1_006);
    expect(['a', 'b', 'c'].map((key) => keys.find(key, windowMs, 1_007)?.offset)).toEqual([2, undefined, 3]);
  });

  test('a longer idempotency window makes the cache incomplete if it has dropped a key of that window', () => {
    const keys = new KnownKeys(1, -Infinity);
    keys.add('a', hit(0), 0);
    keys.add('b', hit(1), 500);
    expect(keys.isComplete(windowMs, 1_200)).toBe(true);
    expect(keys.isComplete(2 * windowMs, 1_200)).toBe(false);
  });

  test('the keys of a topic that is older than the broker are looked up in the database for one window', () => {
    const keys = new KnownKeys(10, 100);
    expect(keys.isComplete(windowMs, 1_099)).toBe(false);
    expect(keys.isComplete(windowMs, 1_100)).toBe(true);
  });

  test('the cache neither finds a key nor takes one for new for one window after a lost answer', () => {
    const keys = new KnownKeys(10, -Infinity);
    keys.add('k', hit(0), 0);
    keys.forget(50);
    expect(keys.find('k', windowMs, 51)).toBeNull();
    expect(keys.isComplete(windowMs, 1_049)).toBe(false);
    expect(keys.isComplete(windowMs, 1_050)).toBe(true);
  });

  const act = fc.oneof(
    fc.record({ type: fc.constant('add' as const), key: fc.nat(9), ms: fc.nat(400) }),
    fc.record({ type: fc.constant('forget' as const), key: fc.nat(9), ms: fc.nat(400) }),
  );

  test('no idempotency key within its window is ever taken for new, and memory is bounded', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), fc.nat(4), (acts, keysMax) => {
        const keys = new KnownKeys(keysMax, -Infinity);
        const stored = new Map<string, { offset: number; atMs: number }>();
        let nowMs = 0;
        for (const [offset, { type, key, ms }] of acts.entries()) {
          nowMs += ms;
          if (type === 'forget') keys.forget(nowMs);
          // A forgotten key is stored too, but its append has an unknown outcome.
          stored.set(`${key}`, { offset, atMs: nowMs });
          if (type === 'add') keys.add(`${key}`, hit(offset), nowMs);
          expect(keys.size).toBeLessThanOrEqual(keysMax);
          for (const [name, known] of stored) {
            if (nowMs - known.atMs >= windowMs) continue;
            const found = keys.find(name, windowMs, nowMs);
            if (found === null) expect(keys.isComplete(windowMs, nowMs)).toBe(false);
            else if (type === 'add') expect(found.offset).toBe(known.offset);
          }
        }
      }),
      property(1_000),
    );
  });
});

describe('a publish with idempotency keys', () => {
  const keyed = { idempotencyKeys: ['k'] };

  test('a record that is published again after a restart is not appended twice', async () => {
    const before = await Scene.open();
    before.publish(records('x'), keyed);
    await before.clock.settle();
    const after = new Scene({ clock: before.clock, shared: before.store.shared });
    await after.log.open([before.store.shared.topic(1).row]);
    const again = after.publish(records('x'), keyed);
    await after.clock.settle();
    expect(again.ended).toBe('0/0 again');
    expect(after.transactions).toEqual([]);
  });

  test('a publish with a key does not query the database once the broker has run for a whole window', async () => {
    const scene = await Scene.open({ topic: { idempotencyWindowMs: windowMs } });
    scene.publish(records('x'), keyed);
    await scene.clock.advance(windowMs);
    const later = scene.publish(records('y'), keyed);
    await scene.clock.settle();
    const again = scene.publish(records('y'), keyed);
    await scene.clock.settle();
    expect([later.ended, again.ended]).toEqual(['0/1', '0/1 again']);
    expect(scene.store.count('findKeys')).toBe(1);
  });

  test('a publish with a key to a new topic does not query the database', async () => {
    const scene = await Scene.open();
    await scene.log.addTopic(scene.store.shared.addTopic('new', 1));
    const publish = scene.publish(records('x'), { topic: 'new', ...keyed });
    await scene.clock.settle();
    expect(publish.ended).toBe('0/0');
    expect(scene.store.count('findKeys')).toBe(0);
  });

  test('a publish whose key cannot be looked up fails, because it might be appended twice', async () => {
    const scene = await Scene.open();
    scene.publish(records('x'), keyed);
    await scene.clock.settle();
    scene.store.before = (call) => {
      if (call === 'findKeys') throw new Fault('DATABASE_UNAVAILABLE', 'gone');
    };
    const publish = scene.publish(records('x'), { idempotencyKeys: ['other'] });
    await scene.clock.settle();
    expect(publish.ended).toBe('DATABASE_UNAVAILABLE');
    expect(scene.store.count('append')).toBe(1);
  });

  test('two concurrent publishes with one key append one record, and both get its offset', async () => {
    const scene = await Scene.open({ partitions: 2, appendSlots: 2 });
    const publishes = [0, 1].map((partition) => scene.publish(records('x'), { partition, ...keyed }));
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', '0/0 again']);
    expect(scene.transactions).toEqual([1]);
  });

  test('a publish waits for one with the same key that is in flight on another connection', async () => {
    const scene = await Scene.open({ partitions: 2, appendSlots: 2 });
    const gate = scene.hold('append');
    const first = scene.publish(records('x'), keyed);
    await scene.clock.settle();
    const second = scene.publish(records('x'), { partition: 1, ...keyed });
    await scene.clock.settle();
    expect(gate.waiting).toBe(1);
    gate.open();
    await scene.clock.settle();
    expect([first.ended, second.ended]).toEqual(['0/0', '0/0 again']);
  });
});
