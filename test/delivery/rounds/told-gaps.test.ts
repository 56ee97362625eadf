import { beforeEach, expect, test } from 'vitest';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { offsetsOf, Scene, type FakeLog, type FakeStream } from '../scene.ts';

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

async function lose(stream: FakeStream): Promise<void> {
  stream.stream!.closed('CONNECTION_LOST');
  await scene.clock.settle();
}

async function takeOver(): Promise<void> {
  scene.store.shared.epoch++;
  const store = new MemoryGroupStore(scene.store.shared);
  scene = await Scene.open({ store, clock: scene.clock, topics: scene.topics, seed: 'next' });
}

const gap = (first: number, last: number) => {
  return { topic: 'orders', partition: 0, lane: 0, first, last, reason: 'RETENTION' };
};
/** The gaps of a stream, and the first offset of each batch, in their order. */
function told({ events, batches }: FakeStream): unknown[] {
  const firsts = batches.map(({ offsets }) => offsets[0]);
  return events.flatMap((event): unknown[] => {
    if (event.type === 'gap') return [{ first: event.first, last: event.last }];
    return event.type === 'batch' ? [firsts.shift()] : [];
  });
}

test('a member is told of a gap before any record behind it, with the place and the reason', async () => {
  await trim(4);
  const stream = await scene.subscribe('billing');
  expect(stream.events.find(({ type }) => type === 'gap')).toMatchObject(gap(0, 3));
  expect(stream.events.map(({ type }) => type).slice(0, 3)).toEqual(['joined', 'assigned', 'gap']);
  expect(told(stream)).toEqual([{ first: 0, last: 3 }, 4, 5]);
});

test('a stream that is open is told of a drop once, and again when the gap grows', async () => {
  const stream = await scene.subscribe('billing', { maxInFlightRecords: 1 });
  await trim(3);
  await scene.clock.advance(60_000);
  await trim(7);
  expect(told(stream)).toEqual([0, { first: 0, last: 2 }, 3, { first: 0, last: 6 }, 7]);
});

test('each stream begins with the gap until a record behind it is acked, also that of the next broker', async () => {
  await trim(4);
  const stream = await scene.subscribe('billing');
  await lose(stream);
  const second = await scene.subscribe('billing');
  expect(told(second)[0]).toEqual({ first: 0, last: 3 });

  await takeOver();
  const third = await scene.subscribe('billing');
  expect(told(third)[0]).toEqual({ first: 0, last: 3 });
  await scene.ack('billing', third, { upToOffset: 4 });
  await lose(third);
  expect(told(await scene.subscribe('billing'))[0]).toBe(5);
});

test('a new holder of the partition is told, and a member that has lost it is not', async () => {
  const first = await scene.subscribe('billing', { maxInFlightRecords: 1 });
  await lose(first);
  const second = await scene.subscribe('billing', { maxInFlightRecords: 1 });
  await trim(4);
  expect(told(first)).toEqual([0]);
  expect(told(second)).toEqual([0, { first: 0, last: 3 }, 4]);
});

test('a stream that does not read keeps one gap for each partition, and gets the last range', async () => {
  const stream = await scene.subscribe('billing', { maxInFlightRecords: 1 });
  stream.stall();
  for (let start = 1; start < 8; start += 1) await trim(start);
  stream.readOn();
  await scene.clock.settle();
  expect(told(stream)).toEqual([0, { first: 0, last: 6 }, 7]);
});

test('a gap at the end of the log is told without any record, and an auto-ack stream closes it with the first one', async () => {
  await trim(10);
  const stream = await scene.subscribe('billing', { autoAck: true });
  expect(told(stream)).toEqual([{ first: 0, last: 9 }]);
  log.append(2);
  await scene.clock.settle();
  await lose(stream);
  expect(told(await scene.subscribe('billing', { autoAck: true }))).toEqual([]);
});

test('a reset begins without a gap', async () => {
  await trim(4);
  await scene.wait(
    scene.delivery.offsets.reset({
      group: 'billing',
      topics: [],
      partitions: [],
      to: { type: 'offset', offset: 6 },
      force: false,
      dryRun: false,
    }),
  );
  expect(told(await scene.subscribe('billing'))).toEqual([6]);
});

test('a pull names the gap beside the records behind it, and again until one of them is acked', async () => {
  await trim(4);
  const first = await scene.wait(scene.pull('billing', { maxRecords: 2 }));
  expect([offsetsOf(first), first.gaps]).toEqual([[4, 5], [gap(0, 3)]]);
  const { memberId } = first;
  const again = await scene.wait(scene.pull('billing', { memberId, maxRecords: 2 }));
  expect([offsetsOf(again), again.gaps]).toEqual([[6, 7], [gap(0, 3)]]);
  await scene.ack('billing', first, { upToOffset: 5 });
  const later = await scene.wait(scene.pull('billing', { memberId }));
  expect([offsetsOf(later), later.gaps]).toEqual([[8, 9], []]);
});

test('a pull that waits answers at once for a new gap, and waits on for a known one', async () => {
  const first = await scene.wait(scene.pull('billing'));
  const { memberId } = first;
  const pulling = scene.pull('billing', { memberId, waitMs: 20_000 });
  await scene.clock.settle();
  const beganMs = scene.clock.nowMs();
  await trim(10);
  const woken = await scene.wait(pulling);
  expect([woken.fields, woken.gaps, scene.clock.nowMs() - beganMs < 1_000]).toEqual([[], [gap(0, 9)], true]);
  const waiting = scene.pull('billing', { memberId, waitMs: 20_000 });
  await scene.clock.advance(19_000);
  await scene.clock.advance(2_000);
  expect((await waiting).gaps).toEqual([gap(0, 9)]);
});

test('an auto-ack pull names the gap that its own acks close', async () => {
  await trim(4);
  const pulled = await scene.wait(scene.pull('billing', { autoAck: true }));
  expect([offsetsOf(pulled), pulled.gaps]).toEqual([[4, 5, 6, 7, 8, 9], [gap(0, 3)]]);
  const next = await scene.wait(scene.pull('billing', { autoAck: true, memberId: pulled.memberId }));
  expect(next.gaps).toEqual([]);
});

test('a gap is told although the group had acked records right behind it before the drop, and ends behind them', async () => {
  const stream = await scene.subscribe('billing', { maxInFlightRecords: 10 });
  await scene.ack('billing', stream, { runs: [4, 6] });
  await lose(stream);
  await trim(4);
  expect(scene.delivery.views.counts().gapRecords).toBe(4);
  for (const isSuccessor of [false, true]) {
    if (isSuccessor) await takeOver();
    const stream = await scene.subscribe('billing');
    expect(told(stream).slice(0, 2)).toEqual([{ first: 0, last: 6 }, 7]);
    await lose(stream);
  }
});

test('an ack of records right behind the gap, while it is being stored, moves its end', async () => {
  const stream = await scene.subscribe('billing', { maxInFlightRecords: 10 });
  const stored = Promise.withResolvers<void>();
  scene.store.before = (write) => (write === 'saveGaps' ? stored.promise : undefined);
  await trim(4);
  await scene.ack('billing', stream, { runs: [4, 6] });
  stored.resolve();
  await scene.clock.settle();
  expect([scene.delivery.views.counts().gapRecords, told(stream).at(-1)]).toEqual([4, { first: 0, last: 6 }]);
  await scene.clock.advance(10);
  expect(scene.describe('billing').partitions[0]).toMatchObject({ committedOffset: 7 });
});

test('a gap is told by the next broker although the group has acked records in flight behind it', async () => {
  const stream = await scene.subscribe('billing', { maxInFlightRecords: 10 });
  stream.stall();
  await trim(4);
  await scene.ack('billing', stream, { upToOffset: 6 });
  await scene.clock.advance(60_000);
  await takeOver();
  expect(told(await scene.subscribe('billing', { maxInFlightRecords: 1 }))).toEqual([{ first: 0, last: 3 }, 7]);
  await scene.clock.settle();
  // It closed as soon as a member had it.
  await takeOver();
  expect(told(await scene.subscribe('billing', { maxInFlightRecords: 1 }))).toEqual([7]);
});

test('a gap is told although the group acks records in flight behind it before its client reads on', async () => {
  const stream = await scene.subscribe('billing', { maxInFlightRecords: 10 });
  stream.stall();
  await trim(4);
  await scene.ack('billing', stream, { upToOffset: 6 });
  stream.readOn();
  await scene.clock.settle();
  expect(told(stream).at(-1)).toEqual({ first: 0, last: 3 });
  await lose(stream);
  expect(told(await scene.subscribe('billing'))).toEqual([7]);
});
