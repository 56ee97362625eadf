import { beforeEach, expect, test } from 'vitest';
import { Scene } from '../scene.ts';

const full = { reason: 'BROKER_FULL' };
let scene: Scene;
beforeEach(async () => {
  scene = await Scene.open();
  scene.addTopic('orders', 2);
  scene.addTopic('returns', 2);
});

test('a broker without memory does not take another member, group or subscription', async () => {
  const there = await scene.subscribe('billing');
  scene.mayGrow = false;
  await expect(scene.subscribe('billing')).rejects.toMatchObject(full);
  await expect(scene.subscribe('shipping')).rejects.toMatchObject(full);
  await expect(scene.subscribe('billing', { memberId: there.memberId, topics: ['returns'] })).rejects.toMatchObject(
    full,
  );
  const subscription = { group: 'billing', topic: 'returns', start: { type: 'earliest' } } as const;
  await expect(scene.delivery.subscriptions.create(subscription)).rejects.toMatchObject(full);
  expect(scene.delivery.views.names({ states: [], topic: null })).toEqual(['billing']);
  expect(scene.delivery.views.counts().members).toBe(1);
});

test('a broker without memory does not stop members that it has already', async () => {
  const session = { sessionTimeoutMs: 30_000 };
  const there = await scene.subscribe('billing', session);
  const fixed = await scene.subscribe('billing', { ...session, instanceId: 'one' });
  const [log] = scene.topics.get('orders')!;
  scene.mayGrow = false;
  await scene.subscribe('billing', { ...session, memberId: there.memberId });
  const again = await scene.subscribe('billing', { ...session, instanceId: 'one' });
  expect(again.memberId).not.toBe(fixed.memberId);
  log!.append(1);
  await scene.clock.settle();
  expect(scene.delivery.views.counts().members).toBe(2);
  expect(scene.delivery.views.counts().inFlightRecords).toBe(1);
});

test('a broker that has memory again does not go on rejecting members', async () => {
  scene.mayGrow = false;
  await expect(scene.subscribe('billing')).rejects.toMatchObject(full);
  scene.mayGrow = true;
  await scene.subscribe('billing');
});
