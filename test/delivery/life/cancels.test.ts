import { beforeEach, describe, expect, test } from 'vitest';
import type { ResetOffsetsCommand } from '../../../src/delivery/ports/offsets.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene, type FakeLog } from '../scene.ts';

let scene: Scene;
let log: FakeLog;

beforeEach(async () => {
  scene = await Scene.open();
  [log] = scene.addTopic('orders', 2) as [FakeLog];
  log.append(3);
});

const cancel = (topic = 'orders', at = scene) => at.wait(at.delivery.subscriptions.cancel('billing', topic));
const cancelled = { reason: 'SUBSCRIPTION_CANCELLED', fields: { group: 'billing', topic: 'orders' } };

describe('a cancel with members present', () => {
  test('the streams of the members end with SUBSCRIPTION_CANCELLED, and no attempt counts', async () => {
    const [a, b] = [await scene.subscribe('billing'), await scene.subscribe('billing', { sessionTimeoutMs: 30_000 })];
    await cancel();
    for (const stream of [a, b]) expect(stream.ended).toMatchObject({ error: cancelled });
    await scene.clock.settle();
    // A member without a session leaves with its stream.
    expect(scene.describe('billing').members.map(({ memberId }) => memberId)).toEqual([b.memberId]);
  });

  test.each([
    ['write', 'before'],
    ['answer', 'after'],
  ] as const)('a cancel whose %s is late leaves the subscription alone that the group has since', async (_, side) => {
    await scene.subscribe('billing');
    const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let writes = 0;
    scene.store[side] = (what) => (what === 'cancelSubscription' ? gates[writes++]?.promise : undefined);
    const [first, second] = [0, 1].map(() => scene.delivery.subscriptions.cancel('billing', 'orders'));
    await scene.clock.settle();
    gates[0]!.resolve();
    await scene.wait(first!);
    const next = await scene.subscribe('billing');
    await scene.ack('billing', next, { upToOffset: 2 });
    gates[1]!.resolve();
    expect(await scene.wait(second!)).toMatchObject({ state: 'CANCELLED' });
    log.append(1);
    await scene.clock.settle();
    expect([next.ended, next.offsets]).toEqual([null, [0, 1, 2, 3]]);
  });

  test('a pull that waits ends with SUBSCRIPTION_CANCELLED', async () => {
    const { memberId } = await scene.wait(scene.pull('billing', { autoAck: true }));
    const waiting = expect(scene.wait(scene.pull('billing', { memberId, waitMs: 20_000 }))).rejects.toMatchObject(
      cancelled,
    );
    await scene.clock.advance(100);
    await cancel();
    await waiting;
  });

  test.each([
    ['Subscribe', (memberId: string) => scene.subscribe('billing', { memberId: memberId as never })],
    [
      'Subscribe without topics',
      (memberId: string) => scene.subscribe('billing', { memberId: memberId as never, topics: [] }),
    ],
    ['Pull', (memberId: string) => scene.wait(scene.pull('billing', { memberId: memberId as never }))],
    ['JoinGroup', (memberId: string) => scene.join('billing', { memberId: memberId as never })],
  ])('a later %s of such a member is rejected, and does not subscribe anew', async (_, call) => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    await cancel();
    await expect(call(stream.memberId)).rejects.toMatchObject(cancelled);
    expect(scene.delivery.subscriptions.list({ group: 'billing', topic: null, states: [] })).toEqual([]);
  });

  test('the member is rejected at the next owner too, because its own row says what it read', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    await cancel();
    scene.store.shared.epoch++;
    const store = new MemoryGroupStore(scene.store.shared);
    const next = await Scene.open({ store, clock: scene.clock, topics: scene.topics, seed: 'next' });
    await expect(next.subscribe('billing', { memberId: stream.memberId })).rejects.toMatchObject(cancelled);
  });

  test('a member that joins without a member id subscribes anew', async () => {
    await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    const { id } = scene.subscription('billing', 'orders').subscription;
    await cancel();
    const stream = await scene.subscribe('billing', { start: { type: 'latest' } });
    expect(scene.subscription('billing', 'orders').subscription.id).not.toBe(id);
    log.append(1);
    await scene.clock.advance(40_000);
    expect(stream.offsets).toEqual([3]);
  });

  test('a member with another topic may go on with that one alone', async () => {
    const [more] = scene.addTopic('returns', 1) as [FakeLog];
    const both = { topics: ['orders', 'returns'], sessionTimeoutMs: 30_000 };
    const stream = await scene.subscribe('billing', both);
    await cancel();
    expect(stream.ended).toMatchObject({ error: cancelled });
    await expect(scene.subscribe('billing', { ...both, memberId: stream.memberId })).rejects.toMatchObject(cancelled);
    const again = await scene.subscribe('billing', { ...both, topics: ['returns'], memberId: stream.memberId });
    more.append(1);
    await scene.clock.settle();
    expect(again.offsets).toEqual([0]);
  });

  test('a member of another topic does not notice', async () => {
    scene.addTopic('returns', 1);
    const other = await scene.subscribe('billing', { topics: ['returns'] });
    await scene.subscribe('billing', { topics: ['orders'] });
    await scene.gathered();
    await cancel();
    expect(other.ended).toBeNull();
  });

  test('a cancel between the join and the stream of a call ends that call, and leaves no member behind', async () => {
    (await scene.subscribe('billing')).stream!.closed('CANCELLED');
    await scene.clock.settle();
    const saved = Promise.withResolvers<void>();
    scene.store.after = (write) => (write === 'saveGroups' ? saved.promise : undefined);
    const joining = expect(scene.subscribe('billing')).rejects.toMatchObject(cancelled);
    await scene.clock.advance(5);
    const cancelling = scene.delivery.subscriptions.cancel('billing', 'orders');
    await scene.clock.advance(5);
    saved.resolve();
    await Promise.all([joining, scene.wait(cancelling)]);
    await scene.clock.advance(5);
    expect(scene.describe('billing').members).toEqual([]);
  });

  test('a reset that waits for members ends when a cancel ends its subscription, and the other topic goes on', async () => {
    const more = scene.addTopic('returns', 3)[2] as FakeLog;
    more.append(1);
    const topics = ['orders', 'returns'];
    await scene.subscribe('billing', { topics, sessionTimeoutMs: 30_000 });
    const command = { group: 'billing', topics, partitions: [], to: { type: 'earliest' }, force: true, dryRun: false };
    const resetting = expect(scene.delivery.offsets.reset(command as ResetOffsetsCommand)).rejects.toMatchObject({
      reason: 'SUBSCRIPTION_NOT_FOUND',
    });
    await scene.clock.settle();
    await cancel();
    // It holds the partitions of the next subscription to the topic.
    const next = await scene.subscribe('billing', { topics });
    // Then the first member, which has the other topic in flight, is gone.
    await scene.clock.advance(40_000);
    await resetting;
    await scene.clock.settle();
    expect(scene.describe('billing').members).toHaveLength(1);
    expect(next.batches.map(({ partition }) => partition)).toContain(2);
  });

  test('a member whose topic was deleted is not told of a cancel', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    await scene.wait(
      scene.delivery.deleteTopic(1, () => {
        scene.topics.delete('orders');
        return Promise.resolve();
      }),
    );
    const again = await scene.subscribe('billing', { memberId: stream.memberId, topics: [] });
    expect(again.ended).toBeNull();
  });
});

describe('the claim of a cancelled subscription', () => {
  test('a cancel writes how far each log was owed, and what was owed and not done', async () => {
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { upToOffset: 0 });
    await cancel();
    const { claims, subscriptions } = scene.store.shared;
    expect([...claims.values()]).toEqual([
      { start: 0, end: 3 },
      { start: 0, end: 0 },
    ]);
    expect(subscriptions.audit).toEqual([{ subscriptionId: 1, reason: 'CANCELLED', state: 'ACTIVE', owedRecords: 2 }]);
  });

  test('a cancel of a subscription that has done everything leaves no audit row', async () => {
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { upToOffset: 2 });
    await cancel();
    expect(scene.store.shared.subscriptions.audit).toEqual([]);
  });

  test('a deleted group leaves an audit row for each subscription', async () => {
    (await scene.subscribe('billing')).stream!.closed('CANCELLED');
    await scene.clock.settle();
    await scene.wait(scene.delivery.deleteGroup('billing'));
    expect(scene.store.shared.subscriptions.audit).toEqual([
      { subscriptionId: 1, reason: 'GROUP_DELETED', state: 'ACTIVE', owedRecords: 3 },
    ]);
  });
});
