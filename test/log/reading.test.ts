import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { endOffset, type EncodedBatch } from '../../src/log/batch.ts';
import type { PartitionLog } from '../../src/log/partition-log.ts';
import { property } from '../coordinator/property.ts';
import { readAll, records, Scene, texts } from './scene.ts';

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('publish' as const),
      partition: fc.nat(1),
      values: fc.array(fc.stringMatching(/^[x-z]{0,60}$/), { minLength: 1, maxLength: 5 }),
      settle: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant('read' as const), reader: fc.nat(2), partition: fc.nat(1) }),
  },
  // Batches that are appended without a listener are not cached, so the cache gets gaps.
  { weight: 1, arbitrary: fc.record({ type: fc.constant('listen' as const), partition: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('lose' as const), partition: fc.nat(1) }) },
);

/** A reader of both logs, and the records that it has read so far. */
class Follower {
  readonly read: string[][] = [[], []];

  async step(log: PartitionLog): Promise<void> {
    const mine = this.read[log.address.partition]!;
    const offset = mine.length;
    if (offset >= log.endOffset) return;
    const batch = log.cached(offset) ?? (await log.fetch(offset));
    expect(batch, `offset ${offset} of ${log.endOffset}`).not.toBeNull();
    mine.push(...texts(batch!).slice(offset - batch!.baseOffset));
  }
}

test('no reader skips or repeats a record, whether its batches are cached, evicted, cleared or fetched', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 50 }), fc.nat(2_000), async (steps, tailBytesMax) => {
      const scene = await Scene.open({ partitions: 2, tailBytesMax });
      const logs = [scene.partition(0), scene.partition(1)];
      const followers = [new Follower(), new Follower(), new Follower()];
      const listener = { appended: () => undefined, trimmed: () => undefined };
      const listening = [false, false];
      const written: string[][] = [[], []];
      for (const one of steps) {
        if (one.type === 'read') await followers[one.reader]!.step(logs[one.partition]!);
        else if (one.type === 'listen') {
          const log = logs[one.partition]!;
          if (listening[one.partition]) log.removeListener(listener);
          else log.addListener(listener);
          listening[one.partition] = !listening[one.partition];
        } else {
          const values = one.type === 'lose' ? ['lost'] : one.values;
          if (one.type === 'lose') loseAnswer(scene);
          const log = written[one.partition]!;
          for (const value of values) log.push(`${log.length}=${value}`);
          scene.publish(records(...values), { partition: one.partition });
          if (one.type === 'lose' || one.settle) await scene.clock.settle();
        }
      }
      await scene.clock.settle();
      expect(scene.stats().tailCacheBytes).toBeLessThanOrEqual(tailBytesMax);
      for (const [partition, log] of logs.entries()) {
        for (const { read } of followers) {
          read[partition]!.push(...(await readAll(log, read[partition]!.length)));
          expect(read[partition]).toEqual(written[partition]);
        }
      }
    }),
    property(150),
  );
});

function loseAnswer(scene: Scene): void {
  scene.store.after = (call) => {
    if (call !== 'append') return;
    scene.store.after = () => undefined;
    throw new Fault('OUTCOME_UNKNOWN', 'the connection broke after COMMIT');
  };
}

/** A log whose records are in the database and not in memory. */
async function stored(count: number, bytes: number): Promise<Scene> {
  const scene = await Scene.open();
  for (let i = 0; i < count; i += 1) {
    const publish = scene.publish(records('x'.repeat(bytes)));
    await scene.clock.settle();
    expect(publish.ended).toBe(`0/${i}`);
  }
  scene.store.calls.length = 0;
  return scene;
}

test('groups that catch up side by side share a fetch and its bytes', async () => {
  const scene = await stored(3, 10);
  const gate = scene.hold('read');
  const [one, other] = [scene.partition().fetch(0), scene.partition().fetch(0)];
  await scene.clock.settle();
  expect(scene.partition().cached(0)).toBeNull();
  gate.open();
  expect((await other)!.bytes).toBe((await one)!.bytes);
  expect((await scene.partition().fetch(1))!.bytes).toBe((await one)!.bytes);
  expect(scene.partition().cached(2)!.bytes).toBe((await one)!.bytes);
  expect(scene.store.count('read')).toBe(1);
});

test('one fetch returns several chunks, each of which joins small batches up to its size', async () => {
  const scene = await stored(9, 100_000);
  const batches: EncodedBatch[] = [];
  for (let offset = 0; offset < 9; offset = endOffset(batches.at(-1)!)) {
    batches.push(scene.partition().cached(offset) ?? (await scene.partition().fetch(offset))!);
  }
  expect(batches.map(({ count }) => count)).toEqual([2, 2, 2, 2, 1]);
  expect(scene.store.count('read')).toBe(1);
});

test('fetched batches are bounded in memory, and the oldest fetch is dropped first', async () => {
  const scene = await stored(30, 1_000_000);
  for (let offset = 0; offset < 30; offset += 1) {
    expect((await scene.partition().fetch(offset))!.baseOffset).toBe(offset);
    expect(scene.stats().readCacheBytes).toBeLessThanOrEqual(16 * 1_048_576);
  }
  expect(scene.partition().cached(0)).toBeNull();
  expect(scene.partition().cached(29)).not.toBeNull();
  scene.log.removeTopic(1);
  expect(scene.stats().readCacheBytes).toBe(0);
});

test('a reader of a topic that was removed still reads, and nothing of it stays in memory', async () => {
  const scene = await stored(3, 1_000);
  const log = scene.partition();
  scene.log.removeTopic(1);
  expect((await log.fetch(0))!.baseOffset).toBe(0);
  expect([log.cached(0), scene.stats().readCacheBytes]).toEqual([null, 0]);
});

test('a fetch that fails does not make the next fetch fail', async () => {
  const scene = await stored(1, 10);
  scene.store.before = (call) => {
    if (call === 'read') throw new Fault('DATABASE_UNAVAILABLE', 'gone');
  };
  const log = scene.partition();
  const fetches = await Promise.allSettled([log.fetch(0), log.fetch(0)]);
  expect(fetches.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  scene.store.before = () => undefined;
  expect(texts((await log.fetch(0))!)).toEqual([`0=${'x'.repeat(10)}`]);
});

test('a read at the end of the log returns nothing and does not query the database', async () => {
  const scene = await stored(2, 10);
  expect(await scene.partition().fetch(2)).toBeNull();
  expect(scene.store.count('read')).toBe(0);
});

test('a reader that keeps up never reads from the database, and is notified once for each commit', async () => {
  const scene = await Scene.open();
  const log = scene.partition();
  const ends: number[] = [];
  const listener = { appended: () => ends.push(log.endOffset), trimmed: () => undefined };
  log.addListener(listener);
  for (const values of [['a'], ['b', 'c']]) {
    scene.publish(records(...values));
    await scene.clock.settle();
    expect(log.cached(log.endOffset - 1)).not.toBeNull();
  }
  log.removeListener(listener);
  scene.publish(records('d'));
  await scene.clock.settle();
  expect(ends).toEqual([1, 3]);
  expect(scene.store.count('read')).toBe(0);
});

test('a time after the last record finds the end of the log, and one before the first finds the start', async () => {
  const scene = await stored(2, 10);
  const firstUs = scene.clock.wallMs() * 1_000;
  expect(await scene.partition().offsetAtTime(firstUs + 1)).toBe(2);
  expect(await scene.partition().offsetAtTime(0)).toBe(0);
});
