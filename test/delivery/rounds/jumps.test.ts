import { beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../../../src/errors/fault.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';

let scene: Scene;
let log: FakeLog;

beforeEach(async () => {
  scene = await Scene.open();
  [log] = scene.addTopic('orders', 1) as [FakeLog];
  log.append(5);
  log.append(5);
  await scene.wait(
    scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: { type: 'earliest' } }),
  );
});

/** Retention drops everything below the offset. */
async function trim(start: number): Promise<void> {
  log.trim(start);
  await scene.clock.settle();
}

async function successor(): Promise<Scene> {
  scene.store.shared.epoch++;
  const store = new MemoryGroupStore(scene.store.shared);
  return Scene.open({ store, clock: scene.clock, topics: scene.topics, seed: 'next' });
}

const offsetsOf = ({ batches }: FakeStream): number[] => batches.flatMap(({ offsets }) => offsets);
const key = { subscriptionId: 1, partition: 0, lane: 0 };
const gaps = () => Array.from(scene.store.shared.gaps.values(), ({ gap }) => gap);
const lost = (): number => scene.delivery.views.counts().gapRecords;
const status = () => scene.describe('billing').partitions[0]!;

describe('a cursor below the start of its log', () => {
  test('a group that returns after a drop goes on at the oldest record still there, and what it has lost is counted', async () => {
    await trim(4);
    await scene.clock.advance(10);
    expect(status()).toMatchObject({ committedOffset: 4, lag: 6 });
    expect(await scene.store.cursor(key)).toMatchObject({ committedOffset: 4 });
    expect([lost(), gaps()]).toEqual([4, [{ first: 0, last: 3, reason: 'RETENTION' }]]);
    expect(offsetsOf(await scene.subscribe('billing'))).toEqual([4, 5, 6, 7, 8, 9]);
  });

  test('drops one after the other are one gap, and records that were acked are not lost', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 3 });
    await scene.ack('billing', stream, { runs: [1, 1] });
    stream.stream!.closed('CONNECTION_LOST');
    await scene.clock.settle();
    await trim(3);
    await trim(7);
    expect([lost(), gaps()]).toEqual([6, [{ first: 0, last: 6, reason: 'RETENTION' }]]);
  });

  test('all records below the start count as lost that were not acked, whatever was acked behind it', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 10 });
    await scene.ack('billing', stream, { runs: [1, 1] });
    await scene.ack('billing', stream, { runs: [4, 6] });
    await trim(4);
    expect(lost()).toBe(3);
  });

  test('a gap behind records that the group has acked takes the place of the one before', async () => {
    await trim(2);
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { upToOffset: 5 });
    stream.stream!.closed('CONNECTION_LOST');
    await scene.clock.settle();
    await trim(8);
    expect([lost(), gaps()]).toEqual([4, [{ first: 6, last: 7, reason: 'RETENTION' }]]);
  });

  test('nothing goes out before the gap is durable, and a failed write of it is repeated', async () => {
    let fails = 2;
    scene.store.before = (write) => {
      if (write === 'saveGaps' && fails-- > 0) throw new Fault('DATABASE_UNAVAILABLE', 'the database was lost');
    };
    await trim(4);
    const stream = await scene.subscribe('billing');
    expect([offsetsOf(stream), status().blockedOn]).toEqual([[], 'READING']);
    await scene.clock.advance(1_000);
    expect(offsetsOf(stream)).toEqual([4, 5, 6, 7, 8, 9]);
    expect([lost(), gaps().length]).toEqual([4, 1]);
  });

  test('a successor jumps again, if the broker before it has stored the gap and not the cursor', async () => {
    const gate = Promise.withResolvers<void>();
    scene.store.after = (write) => (write === 'saveGaps' ? gate.promise : undefined);
    await trim(4);
    expect(gaps()).toHaveLength(1);
    scene = await successor();
    await scene.clock.advance(10);
    expect(status().committedOffset).toBe(4);
    expect(gaps()).toEqual([{ first: 0, last: 3, reason: 'RETENTION' }]);
    gate.resolve();
  });

  test('records in flight below the new start come back with their credit, and a late ack of them changes nothing', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 5 });
    expect(offsetsOf(stream)).toEqual([0, 1, 2, 3, 4]);
    await trim(5);
    expect(offsetsOf(stream)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await scene.ack('billing', stream, { upToOffset: 3 })).toMatchObject({ status: 'ALREADY_ACKED' });
    expect(await scene.ack('billing', stream, { upToOffset: 9 })).toMatchObject({ status: 'OK' });
  });

  test('a jump waits for a settlement whose outcome is not known, and ends with its broker', async () => {
    const { memberId, generation } = await scene.subscribe('billing');
    const entries = [{ topic: 'orders', partition: 0, lane: 0, runs: [0, 0] }];
    const settled = scene.delivery.settle({ group: 'billing', memberId, generation, entries, publishes: [] });
    settled.catch(() => undefined);
    await scene.clock.settle();
    await trim(4);
    expect([status().committedOffset, gaps()]).toEqual([0, []]);
    // A rejection that nobody handles would fail the test.
    await scene.wait(scene.delivery.stop());
    scene = await successor();
    await scene.clock.advance(10);
    expect(status().committedOffset).toBe(4);
  });

  test('a group that has acked everything below the new start has lost nothing', async () => {
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { upToOffset: 4 });
    await trim(5);
    expect([lost(), gaps()]).toEqual([0, []]);
  });
});
