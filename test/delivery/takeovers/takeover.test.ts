import { expect, test } from 'vitest';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene } from '../scene.ts';

async function successor(before: Scene): Promise<Scene> {
  before.store.shared.epoch++;
  const store = new MemoryGroupStore(before.store.shared);
  return Scene.open({ store, clock: before.clock, topics: before.topics, seed: 'next' });
}

test('a member with a session resumes at the next owner without a rebalance, and records that it acked do not come again', async () => {
  const first = await Scene.open();
  const logs = first.addTopic('orders', 2);
  logs[0]!.append(5);
  const stream = await first.subscribe('billing', { sessionTimeoutMs: 30_000 });
  await first.ack('billing', stream, { runs: [0, 1, 3, 3] });
  const second = await successor(first);
  const again = await second.subscribe('billing', { memberId: stream.memberId });
  expect(again.of('joined')[0]!.generation).toBe(stream.generation);
  expect(again.offsets).toEqual([2, 4]);
  expect((await second.ack('billing', again, { upToOffset: 4 })).committedOffset).toBe(5);
});

test('members without a session, whose streams died with their broker, are gone at the next owner', async () => {
  const first = await Scene.open();
  first.addTopic('orders', 2);
  await first.subscribe('billing');
  await first.subscribe('billing');
  const second = await successor(first);
  expect(second.describe('billing').members).toEqual([]);
  expect((await second.subscribe('billing')).assigned).toEqual([0, 1]);
});

test('a broker that was taken over writes nothing, and its calls fail', async () => {
  const first = await Scene.open();
  const [log] = first.addTopic('orders', 1);
  log!.append(1);
  const stream = await first.subscribe('billing');
  await successor(first);
  await expect(first.ack('billing', stream, { upToOffset: 0 })).rejects.toMatchObject({ kind: 'FENCED' });
  expect(first.fenced).toBeGreaterThan(0);
  const stored = await first.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 });
  expect(stored?.committedOffset).toBe(0);
});

test('a broker that was taken over does not fence a process of a static member', async () => {
  const instance = { instanceId: 'worker-1', sessionTimeoutMs: 30_000 };
  const first = await Scene.open();
  first.addTopic('orders', 1);
  await first.subscribe('billing', instance);
  const second = await successor(first);
  const { memberId } = await second.subscribe('billing', instance);
  // The first broker knows only the older process. A process that it fenced would stop for good.
  await expect(first.subscribe('billing', { ...instance, memberId })).rejects.toMatchObject({ kind: 'FENCED' });
});

test('a generation never falls, not even across a takeover', async () => {
  const first = await Scene.open();
  first.addTopic('orders', 2);
  await first.subscribe('billing');
  await first.subscribe('billing');
  const { generation } = first.describe('billing').group;
  const second = await successor(first);
  expect(second.describe('billing').group.generation).toBeGreaterThan(generation);
});

test('a drain sends an event to every member, waits for records in flight, and makes the cursors durable', async () => {
  const scene = await Scene.open();
  const [log] = scene.addTopic('orders', 1);
  log!.append(3);
  const stream = await scene.subscribe('billing');
  const drained = scene.delivery.drain(3_000);
  await scene.clock.advance(10);
  expect(stream.of('draining')).toMatchObject([{ memberId: stream.memberId }]);
  expect(stream.ended).toBeNull();
  log!.append(1);
  await scene.clock.advance(10);
  expect(stream.offsets).toEqual([0, 1, 2]);
  expect((await scene.ack('billing', stream, { upToOffset: 2 })).status).toBe('OK');
  await scene.wait(drained);
  expect(stream.ended?.error?.reason).toBe('DRAINING');
  expect((await scene.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 }))?.committedOffset).toBe(3);
  await expect(scene.subscribe('billing')).rejects.toMatchObject({ reason: 'DRAINING' });
});

test('a drain ends at once when another broker has taken over, because no ack can count any more', async () => {
  const scene = await Scene.open();
  const [log] = scene.addTopic('orders', 1);
  log!.append(1);
  await scene.subscribe('billing');
  const drained = scene.delivery.drain(3_000);
  await scene.clock.advance(100);
  const startedMs = scene.clock.nowMs();
  await scene.delivery.stop();
  await drained;
  expect(scene.clock.nowMs()).toBe(startedMs);
});

test.each(['ACK', 'RELEASE'] as const)(
  'a broker that was taken over rejects no ack and takes back no record, because its successor may have delivered it (%s)',
  async (action) => {
    const first = await Scene.open();
    const [log] = first.addTopic('orders', 1);
    log!.append(1);
    const stream = await first.subscribe('billing', { sessionTimeoutMs: 30_000 });
    const second = await successor(first);
    log!.append(1);
    const again = await second.subscribe('billing', { memberId: stream.memberId, maxInFlightRecords: 2 });
    expect(again.offsets).toEqual([0, 1]);
    const named = action === 'ACK' ? { upToOffset: 7 } : { upToOffset: 0 };
    await expect(first.ack('billing', stream, { action, ...named })).rejects.toMatchObject({ kind: 'FENCED' });
    expect((await second.ack('billing', again, { upToOffset: 1 })).status).toBe('OK');
  },
);
