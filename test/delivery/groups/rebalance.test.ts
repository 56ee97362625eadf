import { beforeEach, expect, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { handedOver, Scene, type FakeLog } from '../scene.ts';

/** Joins within this time after a rebalance wait for the next one. */
const gatherMs = limits.rebalanceGatherMs;

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 4);
});

test('partitions that stay go on delivering while others move, and their acks count', async () => {
  const first = await scene.subscribe('billing');
  expect(first.assigned).toEqual([0, 1, 2, 3]);
  for (const log of logs) log.append(1);
  await scene.clock.settle();
  const oldGeneration = first.generation;
  const joining = scene.subscribe('billing');
  await scene.clock.advance(gatherMs);
  const moving = first
    .of('revoking')
    .at(-1)!
    .partitions.map(({ partition }) => partition);
  expect(moving).toHaveLength(2);
  const staying = [0, 1, 2, 3].filter((partition) => !moving.includes(partition));
  for (const log of logs) log.append(1);
  await scene.clock.settle();
  const delivered = (partition: number): number[] =>
    first.batches.filter((batch) => batch.partition === partition).flatMap(({ offsets }) => offsets);
  for (const partition of staying) expect(delivered(partition)).toEqual([0, 1]);
  for (const partition of moving) expect(delivered(partition)).toEqual([0]);
  for (const partition of staying) {
    const kept = { memberId: first.memberId, generation: oldGeneration };
    expect((await scene.ack('billing', kept, { partition, upToOffset: 1 })).status).toBe('OK');
  }
  // The second member gets the moving partitions only after the first has acked their records.
  const second = await joining;
  expect(second.batches).toEqual([]);
  for (const partition of moving) {
    expect((await scene.ack('billing', first, { partition, upToOffset: 0 })).status).toBe('OK');
  }
  await scene.clock.settle();
  expect(second.assigned).toEqual(moving);
  expect(second.batches.map(({ partition, offsets }) => [partition, offsets])).toEqual(moving.map((p) => [p, [1]]));
});

test('a late ack from an old generation changes nothing', async () => {
  const first = await scene.subscribe('billing', { rebalanceTimeoutMs: 1_000 });
  for (const log of logs) log.append(2);
  await scene.clock.settle();
  const second = await scene.subscribe('billing');
  await scene.clock.advance(1_100);
  const [moved] = second.assigned;
  const late = await scene.ack('billing', first, { partition: moved!, upToOffset: 1 });
  expect(late).toMatchObject({ status: 'NOT_OWNER', committedOffset: 0 });
  const older = { memberId: first.memberId, generation: 1 };
  expect(await scene.ack('billing', older, { partition: moved!, upToOffset: 1 })).toMatchObject({
    status: 'STALE_GENERATION',
    committedOffset: 0,
  });
  expect(second.batches.find(({ partition }) => partition === moved)).toMatchObject({ offsets: [0, 1] });
});

test('a heartbeat that lists a partition gives it back before its deadline', async () => {
  const first = await scene.subscribe('billing');
  for (const log of logs) log.append(1);
  await scene.clock.settle();
  const second = await scene.subscribe('billing');
  const { memberId } = first;
  const { revoking } = scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: 1, revoked: [] });
  expect(revoking).toHaveLength(2);
  scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: 1, revoked: revoking });
  await scene.clock.settle();
  expect(second.assigned).toEqual(revoking.map(({ partition }) => partition));
});

test('a late heartbeat does not give back a partition that the member has got again since', async () => {
  const first = await scene.subscribe('billing');
  const before = first.generation;
  for (const log of logs) log.append(1);
  await scene.clock.settle();
  const second = await scene.subscribe('billing');
  const { memberId } = first;
  const moved = first.of('revoking').at(-1)!.partitions;
  for (const { partition } of moved) await scene.ack('billing', first, { partition, upToOffset: 0 });
  second.stream!.closed('CONNECTION_LOST');
  await scene.gathered();
  expect(first.assigned).toEqual([0, 1, 2, 3]);
  for (const log of logs) log.append(1);
  await scene.clock.settle();
  const third = await scene.subscribe('billing');
  const revoking = first.of('revoking').at(-1)!.partitions;
  expect(revoking).toEqual(moved);
  scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: before, revoked: revoking });
  await scene.clock.settle();
  expect(third.assigned).toEqual([]);
  scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: first.generation, revoked: revoking });
  await scene.clock.settle();
  expect(third.assigned).toEqual(revoking.map(({ partition }) => partition));
});

test('a member without a session timeout lives and dies with its stream', async () => {
  const first = await scene.subscribe('billing');
  const second = await scene.subscribe('billing');
  first.stream!.closed('CONNECTION_LOST');
  await scene.clock.advance(gatherMs);
  expect(second.assigned).toEqual([0, 1, 2, 3]);
  expect(scene.describe('billing').members).toHaveLength(1);
});

test('a member with a session timeout survives the end of its stream until the timeout', async () => {
  const first = await scene.subscribe('billing', { sessionTimeoutMs: 6_000 });
  const second = await scene.subscribe('billing');
  first.stream!.closed('CONNECTION_LOST');
  await scene.clock.advance(5_900);
  expect(second.assigned).toHaveLength(2);
  await scene.clock.advance(200);
  expect(second.assigned).toEqual([0, 1, 2, 3]);
});

test('a stream that resumes a member replaces the older one and gets everything un-acked again, attempt unchanged', async () => {
  logs[0]!.append(4);
  const first = await scene.subscribe('billing', { sessionTimeoutMs: 6_000, maxInFlightRecords: 4 });
  await scene.ack('billing', first, { upToOffset: 0 });
  const again = await scene.subscribe('billing', { memberId: first.memberId, maxInFlightRecords: 4 });
  expect(first.ended?.error?.reason).toBe('REPLACED');
  expect(again.memberId).toBe(first.memberId);
  expect(again.batches).toEqual([{ partition: 0, offsets: [1, 2, 3], attempts: [1, 1, 1] }]);
  first.stream!.closed('CONNECTION_LOST');
  await scene.clock.settle();
  expect(again.ended).toBeNull();
});

test('the partitions of a member that left move at once, and no attempt counts', async () => {
  logs[0]!.append(2);
  const first = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
  const second = await scene.subscribe('billing');
  await scene.wait(scene.delivery.membership.leave('billing', first.memberId));
  await scene.clock.settle();
  expect(first.ended).toEqual({ error: null });
  expect(second.batches).toEqual([{ partition: 0, offsets: [0, 1], attempts: [1, 1] }]);
  await expect(scene.ack('billing', first, { upToOffset: 1 })).rejects.toMatchObject({ reason: 'MEMBER_FENCED' });
});

test('joins that come close together become one rebalance', async () => {
  await scene.subscribe('billing');
  const generation = scene.describe('billing').group.generation;
  await Promise.all([scene.subscribe('billing'), scene.subscribe('billing'), scene.subscribe('billing')]);
  expect(scene.describe('billing').group.generation).toBe(generation + 1);
});

test('a full group rejects a new member, and lets a former one resume', async () => {
  const [first] = await Promise.all(
    Array.from({ length: 5 }, () => scene.subscribe('billing', { sessionTimeoutMs: 30_000 })),
  );
  await expect(scene.subscribe('billing')).rejects.toMatchObject({ reason: 'GROUP_MEMBERS_MAX' });
  await scene.subscribe('billing', { memberId: first!.memberId });
});

test('a classic member gets its partitions by a SyncGroup that waits until they have been given back', async () => {
  const streaming = await scene.subscribe('billing');
  for (const log of logs) log.append(1);
  await scene.clock.settle();
  const join = await scene.wait(
    scene.delivery.join('host', {
      group: 'billing',
      topics: ['orders'],
      start: { type: 'latest' },
      clientId: 'classic',
      memberId: null,
      instanceId: null,
      maxPollIntervalMs: 300_000,
      lanes: false,
      clientAssignors: [],
      metadata: new Uint8Array(),
      reply: handedOver(),
      sessionTimeoutMs: 30_000,
      rebalanceTimeoutMs: 10_000,
      assignor: 'sticky',
    }),
  );
  const sync = (knownGeneration: number | null, waitMs: number) =>
    scene.delivery.membership.sync({
      group: 'billing',
      memberId: join.memberId,
      knownGeneration,
      plan: null,
      waitMs,
      signal: new AbortController().signal,
    });
  const { generation, partitions } = await sync(null, 0);
  expect(partitions).toEqual([]);
  await expect(scene.wait(sync(generation, 50))).rejects.toMatchObject({ reason: 'SYNC_TIMEOUT' });
  const waiting = sync(generation, 5_000);
  for (const { partition } of streaming.of('revoking').at(-1)!.partitions) {
    await scene.ack('billing', streaming, { partition, upToOffset: 0 });
  }
  expect((await scene.wait(waiting)).partitions).not.toEqual([]);
});

test('the deletion of a topic takes its partitions from their members', async () => {
  const stream = await scene.subscribe('billing');
  await scene.wait(scene.delivery.deleteTopic(1, () => Promise.resolve()));
  await scene.clock.settle();
  expect(stream.assigned).toEqual([]);
  expect(logs.map((log) => log.listeners)).toEqual([0, 0, 0, 0]);
  expect(scene.delivery.subscriptions.list({ group: null, topic: null, states: [] })).toEqual([]);
});

test('a subscription after a cancelled one gets another id', async () => {
  const { subscription } = await scene.wait(
    scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: { type: 'latest' } }),
  );
  await expect(
    scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: { type: 'latest' } }),
  ).rejects.toMatchObject({ reason: 'SUBSCRIPTION_EXISTS' });
  expect(await scene.wait(scene.delivery.subscriptions.cancel('billing', 'orders'))).toMatchObject({
    state: 'CANCELLED',
  });
  const again = await scene.wait(
    scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: { type: 'latest' } }),
  );
  expect(again.subscription.id).not.toBe(subscription.id);
});

test('no client sees a generation that is not durable yet, because a successor may use the number for another assignment', async () => {
  const first = await scene.subscribe('billing', { sessionTimeoutMs: 6_000 });
  const written = Promise.withResolvers<void>();
  scene.store.before = (write) => (write === 'saveGroups' ? written.promise : undefined);
  const joining = scene.subscribe('billing');
  await scene.clock.settle();
  logs[0]!.append(1);
  await scene.clock.settle();
  const { memberId, generation } = first;
  expect(first.of('batch').map((event) => event.generation)).toEqual([generation]);
  expect(scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation, revoked: [] }).generation).toBe(
    generation,
  );
  written.resolve();
  await joining;
  expect(scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation, revoked: [] }).generation).toBe(
    generation + 1,
  );
});
