import { expect, test } from 'vitest';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import { Folds } from '../../../src/delivery/rounds/folds.ts';
import type { AckLogCounts } from '../../../src/delivery/ports/store.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene } from '../scene.ts';

/** Less than the retention of offsets in these tests. */
const halfHourMs = 1_800_000;

/** The time until the first fold, by what the load has found and the number of deltas appended. */
async function foldedAfterMs(found: AckLogCounts, deltas = 0): Promise<number> {
  const clock = new FakeClock();
  const store = new MemoryGroupStore();
  await store.readAckLog();
  const startMs = clock.nowMs();
  let foldedMs = NaN;
  store.before = (write) => {
    if (write === 'truncate') foldedMs = clock.nowMs();
  };
  const folds = new Folds({ store, ring: new AckRing(), clock, onFailed: () => undefined });
  folds.start(found);
  folds.appended(deltas);
  for (let step = 0; step < 30 && Number.isNaN(foldedMs); step++) await clock.advance(5_000);
  void folds.stop(Infinity);
  return foldedMs - startMs;
}

async function successor(before: Scene): Promise<Scene> {
  before.store.shared.epoch++;
  const store = new MemoryGroupStore(before.store.shared);
  return Scene.open({ store, clock: before.clock, topics: before.topics, seed: 'next' });
}

test('folds with more changed cursors come less often, but at least once a minute', async () => {
  const waits = [];
  for (const cursors of [1, 80_000, 200_000, 1_000_000, 10_000_000]) {
    waits.push(await foldedAfterMs({ cursors, rounds: 1 }));
  }
  expect(waits).toEqual([5_000, 5_000, 15_000, 60_000, 60_000]);
});

test('many rounds bring the next fold forward, so that a successor does not read a minute of them', async () => {
  expect(await foldedAfterMs({ cursors: 1_000_000, rounds: 1 }, 3_999_999)).toBe(60_000);
  expect(await foldedAfterMs({ cursors: 1_000_000, rounds: 1 }, 4_000_000)).toBe(5_000);
  expect(await foldedAfterMs({ cursors: 200_000, rounds: 1 }, 1_000_000)).toBe(5_000);
});

test('a new owner without clients empties the ack log within a minute, loses nothing of it, and then writes nothing', async () => {
  const first = await Scene.open();
  const logs = first.addTopic('orders', 8);
  for (const log of logs) log.append(3);
  const stream = await first.subscribe('billing', { sessionTimeoutMs: 30_000 });
  for (const [partition] of logs.entries()) await first.ack('billing', stream, { partition, upToOffset: 1 });
  expect(first.store.shared.ackLog.length).toBeGreaterThan(0);
  const second = await successor(first);
  await second.clock.advance(60_000);
  expect(second.store.shared.ackLog).toEqual([]);
  const { writes } = second.store;
  await second.clock.advance(halfHourMs);
  expect(second.store.writes).toBe(writes);
  const third = await successor(second);
  const committed = third.describe('billing').partitions.map(({ committedOffset }) => committedOffset);
  expect(committed).toEqual(logs.map(() => 2));
});

test('rejected acks do not fill the ack log', async () => {
  const scene = await Scene.open();
  scene.addTopic('orders', 1);
  const stream = await scene.subscribe('billing');
  for (let n = 0; n < 5; n++) await scene.ack('billing', stream, { upToOffset: 100 });
  expect(scene.store.shared.ackLog.length).toBe(5);
  await scene.clock.advance(10_000);
  expect(scene.store.shared.ackLog).toEqual([]);
});

test('a shutdown folds until its deadline at most, and the successor reads the rounds that are not folded', async () => {
  const first = await Scene.open();
  const logs = first.addTopic('orders', 20);
  for (const log of logs) log.append(3);
  const stream = await first.subscribe('billing', { sessionTimeoutMs: 30_000 });
  for (const [partition] of logs.entries()) await first.ack('billing', stream, { partition, upToOffset: 2 });
  // The fold takes ten pieces of a second each.
  first.store.foldedTogetherMax = 2;
  first.store.before = (write) =>
    write === 'fold' ? new Promise((resolve) => first.clock.after(1_000, resolve)) : undefined;
  const startMs = first.clock.nowMs();
  let drainedMs = NaN;
  const drained = first.delivery.drain(3_500).then(() => (drainedMs = first.clock.nowMs()));
  await first.clock.advance(60_000);
  await drained;
  expect(drainedMs - startMs).toBe(4_000);
  const folded = [...first.store.shared.cursors.values()].filter(({ cursor }) => cursor.committedOffset === 3);
  expect(folded.length).toBe(8);
  const second = await successor(first);
  const committed = second.describe('billing').partitions.map(({ committedOffset }) => committedOffset);
  expect(committed).toEqual(logs.map(() => 3));
});

test('a fold that is under way at a shutdown ends at the deadline too', async () => {
  const first = await Scene.open();
  const logs = first.addTopic('orders', 20);
  for (const log of logs) log.append(3);
  const stream = await first.subscribe('billing', { sessionTimeoutMs: 30_000 });
  for (const [partition] of logs.entries()) await first.ack('billing', stream, { partition, upToOffset: 2 });
  first.store.foldedTogetherMax = 2;
  first.store.before = (write) =>
    write === 'fold' ? new Promise((resolve) => first.clock.after(1_000, resolve)) : undefined;
  await first.clock.advance(5_500);
  const startMs = first.clock.nowMs();
  let drainedMs = NaN;
  const drained = first.delivery.drain(2_000).then(() => (drainedMs = first.clock.nowMs()));
  await first.clock.advance(60_000);
  await drained;
  // The piece that is under way at the deadline, and the first piece, which needs no permission.
  expect(drainedMs - startMs).toBeLessThanOrEqual(4_000);
  const second = await successor(first);
  const committed = second.describe('billing').partitions.map(({ committedOffset }) => committedOffset);
  expect(committed).toEqual(logs.map(() => 3));
});

test('a fold waits for a settlement that writes to a table that it would truncate, but at a shutdown only until the deadline', async () => {
  const clock = new FakeClock();
  const store = new MemoryGroupStore();
  await store.readAckLog();
  const ring = new AckRing();
  let truncated = 0;
  store.before = (write) => {
    if (write === 'truncate') truncated++;
  };
  const folds = new Folds({ store, ring, clock, onFailed: () => undefined });
  folds.start({ cursors: 1, rounds: 1 });
  const onItsWay = ring.refer();
  await clock.advance(30_000);
  expect([ring.current, truncated]).toEqual([1, 0]);
  onItsWay.release();
  await clock.settle();
  expect(truncated).toBe(1);
  ring.refer();
  folds.appended(1);
  void folds.stop(clock.nowMs() + 1_000);
  const finished = folds.finish();
  await clock.advance(2_000);
  await finished;
  expect(truncated).toBe(1);
});

test('a fold that is asked for writes the cursors at once, and tells which topics they are of', async () => {
  const scene = await Scene.open();
  const orders = scene.addTopic('orders', 1);
  for (const log of orders) log.append(3);
  const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
  await scene.ack('billing', stream, { upToOffset: 1 });
  const startMs = scene.clock.nowMs();
  const folded = scene.delivery.foldNow();
  await scene.clock.advance(1);
  await folded;
  expect(scene.clock.nowMs() - startMs).toBe(1);
  expect([...scene.store.shared.cursors.values()].map(({ cursor }) => cursor.committedOffset)).toEqual([2]);
  const { writes } = scene.store;
  const again = scene.delivery.foldNow();
  await scene.clock.advance(1);
  await again;
  expect(scene.store.writes).toBe(writes);
});

test('whoever waits for a fold learns that it failed, or that the broker has stopped', async () => {
  const clock = new FakeClock();
  const store = new MemoryGroupStore();
  await store.readAckLog();
  store.before = () => {
    throw new Fault('DATABASE_UNAVAILABLE', 'down');
  };
  const folded: ReadonlySet<number>[] = [];
  const folds = new Folds({
    store,
    ring: new AckRing(),
    clock,
    onFailed: () => undefined,
    onFolded: (topicIds) => folded.push(topicIds),
  });
  folds.start({ cursors: 1, rounds: 1 });
  const failed = folds.now().catch((error: Fault) => error.kind);
  await clock.advance(1);
  expect([await failed, folded]).toEqual(['DATABASE_UNAVAILABLE', []]);
  store.before = () => undefined;
  const done = folds.now();
  await clock.advance(1);
  await done;
  expect(folded).toEqual([new Set()]);
  const late = folds.now().catch((error: Fault) => error.kind);
  void folds.stop();
  expect(await late).toBe('FENCED');
  await expect(folds.now()).rejects.toMatchObject({ kind: 'FENCED' });
});
