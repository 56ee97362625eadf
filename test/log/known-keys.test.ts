import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import type { Account } from '../../src/account/account.ts';
import { weights } from '../../src/account/weights.ts';
import { KeyMemory, type KnownKeys } from '../../src/log/known-keys.ts';
import { property } from '../coordinator/property.ts';
import { smallAccount } from '../account/accounts.ts';
import { records, Scene } from './scene.ts';

const windowMs = 1_000;
/** Of one character. */
const keyBytes = weights.key + 1;

/** The keys of a topic, in an account with room for so many keys of one character. */
function keysOf(count: number, completeSinceMs = -Infinity): KnownKeys {
  return new KeyMemory(smallAccount({ keys: count * keyBytes }).kind('keys')).ofTopic(completeSinceMs);
}

const hit = (offset: number) => ({ partition: 0, offset });

describe('idempotency keys in memory', () => {
  test('an idempotency key is known until its window has passed, and not longer', () => {
    const keys = keysOf(10);
    keys.add('k', hit(7), 0);
    expect(keys.find('k', windowMs, 999)).toMatchObject(hit(7));
    expect(keys.find('k', windowMs, 1_000)).toBeNull();
  });

  test('an idempotency key that is stored again after its window outlives older keys in the cache', () => {
    const keys = keysOf(2);
    keys.add('a', hit(0), 0);
    keys.add('b', hit(1), 10);
    keys.add('a', hit(2), 1_005);
    keys.add('c', hit(3), 1_006);
    expect(['a', 'b', 'c'].map((key) => keys.find(key, windowMs, 1_007)?.offset)).toEqual([2, undefined, 3]);
  });

  test('a longer idempotency window makes the cache incomplete if it has dropped a key of that window', () => {
    const keys = keysOf(1);
    keys.add('a', hit(0), 0);
    keys.add('b', hit(1), 500);
    expect(keys.isComplete(windowMs, 1_200)).toBe(true);
    expect(keys.isComplete(2 * windowMs, 1_200)).toBe(false);
  });

  test('the keys of a topic that is older than the broker are looked up in the database for one window', () => {
    const keys = keysOf(10, 100);
    expect(keys.isComplete(windowMs, 1_099)).toBe(false);
    expect(keys.isComplete(windowMs, 1_100)).toBe(true);
  });

  test('the cache neither finds a key nor takes one for new for one window after a lost answer', () => {
    const keys = keysOf(10);
    keys.add('k', hit(0), 0);
    keys.forget(50);
    expect(keys.find('k', windowMs, 51)).toBeNull();
    expect(keys.isComplete(windowMs, 1_049)).toBe(false);
    expect(keys.isComplete(windowMs, 1_050)).toBe(true);
  });

  const act = fc.oneof(
    fc.record({ type: fc.constant('add' as const), topic: fc.nat(2), key: fc.nat(9), ms: fc.nat(400) }),
    fc.record({ type: fc.constant('forget' as const), topic: fc.nat(2), key: fc.nat(9), ms: fc.nat(400) }),
  );

  test('no idempotency key of any topic within its window is taken for new, and memory is bounded over all', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), fc.nat(6), (acts, keysMax) => {
        const kind = smallAccount({ keys: keysMax * keyBytes }).kind('keys');
        const memory = new KeyMemory(kind);
        const topics = [0, 1, 2].map(() => ({
          keys: memory.ofTopic(-Infinity),
          stored: new Map<string, { offset: number; atMs: number }>(),
        }));
        let nowMs = 0;
        for (const [offset, { type, topic: at, key, ms }] of acts.entries()) {
          nowMs += ms;
          const topic = topics[at]!;
          if (type === 'forget') topic.keys.forget(nowMs);
          // A forgotten key is stored too, but its append has an unknown outcome.
          topic.stored.set(`${key}`, { offset, atMs: nowMs });
          if (type === 'add') topic.keys.add(`${key}`, hit(offset), nowMs);
          expect(kind.bytes).toBeLessThanOrEqual(keysMax * keyBytes);
          expect(topics.reduce((sum, { keys }) => sum + keys.size * keyBytes, 0)).toBe(kind.bytes);
          for (const { keys, stored } of topics) {
            for (const [name, known] of stored) {
              if (nowMs - known.atMs >= windowMs) continue;
              const found = keys.find(name, windowMs, nowMs);
              if (found === null) expect(keys.isComplete(windowMs, nowMs)).toBe(false);
              else expect(found.offset).toBe(known.offset);
            }
          }
        }
        for (const { keys } of topics) keys.close();
        expect(kind.bytes).toBe(0);
      }),
      property(1_000),
    );
  });

  test('the keys of ten topics, 660,000 of 256 characters, fill the heap with a limit of each topic alone', () => {
    const account: Account = smallAccount({});
    const memory = new KeyMemory(account.kind('keys'));
    const topics = Array.from({ length: 10 }, () => memory.ofTopic(-Infinity));
    for (let n = 0; n < 660_000; n++) topics[n % 10]!.add(`${n}`.padEnd(256, '.'), hit(n), n);
    expect(account.kind('keys').bytes).toBeLessThanOrEqual(account.kind('keys').bytesMax);
    for (const [at, keys] of topics.entries()) {
      const newest = 659_990 + at;
      expect(keys.find(`${newest}`.padEnd(256, '.'), 1_000, 660_000)).toMatchObject(hit(newest));
      // The window is longer than what is left of the keys.
      expect(keys.isComplete(660_000, 660_000)).toBe(false);
    }
  });

  test('a topic with many keys drives out the few keys of another topic', () => {
    const memory = new KeyMemory(smallAccount({ keys: 1_000 * keyBytes }).kind('keys'));
    const [few, many] = [memory.ofTopic(-Infinity), memory.ofTopic(-Infinity)];
    few.add('k', hit(1), 0);
    for (let n = 0; n < 5_000; n++) many.add(`key-${n}`, hit(n), 1);
    expect(few.find('k', windowMs, 2)).toMatchObject(hit(1));
    expect([few.isComplete(windowMs, 2), many.isComplete(windowMs, 2)]).toEqual([true, false]);
  });

  test('a key that found no room, because the heap is full, is taken for new', () => {
    const account = smallAccount({ keys: 0 });
    const keys = new KeyMemory(account.kind('keys')).ofTopic(-Infinity);
    keys.add('k', hit(0), 10);
    expect([keys.find('k', windowMs, 11), keys.isComplete(windowMs, 1_009)]).toEqual([null, false]);
    expect(keys.isComplete(windowMs, 1_010)).toBe(true);
  });

  test('the keys of a deleted topic, or of an append that was in flight at its deletion, stay in the account', async () => {
    const scene = await Scene.open();
    scene.publish(records('x'), { idempotencyKeys: ['k'] });
    await scene.clock.settle();
    expect(scene.account.kind('keys').bytes).toBe(keyBytes);
    const gate = scene.hold('append');
    scene.publish(records('y'), { idempotencyKeys: ['l'] });
    await scene.clock.settle();
    scene.log.removeTopic(1);
    gate.open();
    await scene.clock.settle();
    expect([...scene.account.kinds()].filter(({ bytes }) => bytes > 0)).toEqual([]);
  });
});

describe('a publish with idempotency keys', () => {
  const keyed = { idempotencyKeys: ['k'] };

  test('a record that is published again after a restart is not appended twice', async () => {
    const before = await Scene.open();
    before.publish(records('x'), keyed);
    await before.clock.settle();
    const after = new Scene({ clock: before.clock, shared: before.store.shared });
    after.log.open([before.store.shared.topic(1).row]);
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
